//! Syslog lines without a year: they get that of their record, where VRL takes the clock's.

use std::collections::BTreeMap;

use ::vrl::compiler::function::{Compiled, FunctionCompileContext};
use ::vrl::compiler::{Context, Expression, Function, FunctionExpression, Resolved, TypeDef, TypeState};
use ::vrl::path::{OwnedTargetPath, OwnedValuePath};
use ::vrl::prelude::{ArgumentList, Value, VrlValueConvert};
use chrono::{DateTime, Datelike, TimeZone, Utc};
use syslog_loose::{IncompleteDate, Message, ProcId, Protocol, Variant};

/// Compiles a call of VRL's `parse_syslog`, or of another name of it, but for the year.
pub(crate) fn compile(
    function: &dyn Function,
    state: &TypeState,
    context: &mut FunctionCompileContext,
    arguments: ArgumentList,
) -> Compiled {
    let value = arguments.required("value");
    let theirs = function.compile(state, context, arguments)?;
    Ok(ParseSyslog { value, theirs }.as_expr())
}

/// A call of it.
#[derive(Clone, Debug)]
struct ParseSyslog {
    value: Box<dyn Expression>,
    /// What VRL would do: it has the same type.
    theirs: Box<dyn Expression>,
}

impl FunctionExpression for ParseSyslog {
    fn resolve(&self, context: &mut Context<'_>) -> Resolved {
        let value = self.value.resolve(context)?;
        let timestamp = OwnedTargetPath::metadata(OwnedValuePath::single_field("timestamp"));
        let time = match context.target().target_get(&timestamp) {
            Ok(Some(Value::Timestamp(time))) => *time,
            _ => DateTime::<Utc>::UNIX_EPOCH,
        };
        let text = value.try_bytes_utf8_lossy()?;
        let year = |date: IncompleteDate| year_of(date, time);
        let message = syslog_loose::parse_message_with_year_exact_tz(&text, year, Some(Utc), Variant::Either)?;
        Ok(fields(message))
    }

    fn type_def(&self, state: &TypeState) -> TypeDef {
        self.theirs.type_def(state)
    }
}

/// A line of December that became a record in January is last year's.
fn year_of((month, ..): IncompleteDate, time: DateTime<Utc>) -> i32 {
    match (time.month(), month) {
        (1, 12) => time.year() - 1,
        _ => time.year(),
    }
}

/// As VRL names them.
fn fields(message: Message<&str>) -> Value {
    let mut fields = BTreeMap::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.into(), value);
        }
    };
    put("message", Some(message.msg.into()));
    put("hostname", message.hostname.map(Value::from));
    put("severity", message.severity.map(|severity| severity.as_str().into()));
    put("facility", message.facility.map(|facility| facility.as_str().into()));
    put("appname", message.appname.map(Value::from));
    put("msgid", message.msgid.map(Value::from));
    put("timestamp", message.timestamp.map(|time| Value::Timestamp(Utc.from_utc_datetime(&time.naive_utc()))));
    if let Protocol::RFC5424(version) = message.protocol {
        put("version", Some(version.into()));
    }
    put(
        "procid",
        message.procid.map(|process| match process {
            ProcId::PID(number) => number.into(),
            ProcId::Name(name) => name.into(),
        }),
    );
    for element in message.structured_data {
        let parameters = element.params().map(|(name, value)| ((*name).into(), value.into()));
        put(element.id, Some(Value::Object(parameters.collect())));
    }
    Value::Object(fields)
}

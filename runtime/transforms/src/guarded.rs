//! Functions that would overflow the stack on deeply nested input, which ends the whole process: how deep it is is
//! looked at first.

use ::vrl::compiler::function::{Compiled, FunctionCompileContext, Parameter};
use ::vrl::compiler::state::{ExternalEnv, RuntimeState};
use ::vrl::compiler::{
    CompileConfig, Context, Expression, ExpressionError, Function, FunctionExpression, Program, Resolved, TargetValue,
    TypeDef, TypeState,
};
use ::vrl::prelude::{ArgumentList, KeyString, ObjectMap, Value};
use ::vrl::value::Secrets;

/// Functions that are called only with what is not nested deeper than [`DEEPEST`].
pub(crate) const GUARDED: &[&str] = &["parse_ruby_hash", "parse_xml", "parse_yaml", "set", "unflatten"];

/// As deep as JSON is read.
const DEEPEST: usize = 128;

/// Compiles a call of one of the functions.
pub(crate) fn compile(
    function: &dyn Function,
    state: &TypeState,
    context: &mut FunctionCompileContext,
    arguments: ArgumentList,
) -> Compiled {
    let given = |parameter: &Parameter| Some((parameter.keyword, arguments.optional(parameter.keyword)?));
    let given: Vec<_> = function.parameters().iter().filter_map(given).collect();
    let name = function.identifier();
    let call = call(name, given.iter().map(|(keyword, _)| *keyword))?;
    let theirs = function.compile(state, context, arguments)?;
    Ok(GuardedCall { name, arguments: given, call, theirs }.as_expr())
}

/// VRL's own function as a program over arguments in `%`: an expression can be given values in no other way, and to
/// resolve the arguments twice, once to look at them, would do twice what they do.
fn call(
    name: &'static str,
    keywords: impl Iterator<Item = &'static str>,
) -> Result<Program, Box<dyn ::vrl::diagnostic::DiagnosticMessage>> {
    let arguments: Vec<String> = keywords.map(|keyword| format!("{keyword}: %{keyword}")).collect();
    let source = format!("{name}!({})", arguments.join(", "));
    let functions: Vec<_> = ::vrl::stdlib::all().into_iter().filter(|function| function.identifier() == name).collect();
    let done =
        ::vrl::compiler::compile_with_external(&source, &functions, &ExternalEnv::default(), CompileConfig::default());
    done.map(|done| done.program).map_err(|_| -> Box<dyn ::vrl::diagnostic::DiagnosticMessage> {
        Box::new(ExpressionError::from(format!("`{name}` can not be called like this")))
    })
}

/// A call of one of the functions.
#[derive(Clone, Debug)]
struct GuardedCall {
    name: &'static str,
    arguments: Vec<(&'static str, Box<dyn Expression>)>,
    call: Program,
    /// What VRL would do: it has the same type.
    theirs: Box<dyn Expression>,
}

impl FunctionExpression for GuardedCall {
    fn resolve(&self, context: &mut Context<'_>) -> Resolved {
        let mut values = ObjectMap::new();
        for (keyword, argument) in &self.arguments {
            values.insert((*keyword).into(), argument.resolve(context)?);
        }
        let depth = depth(self.name, &values);
        if depth > DEEPEST {
            return Err(format!("nested more than {DEEPEST} levels deep").into());
        }
        let mut target =
            TargetValue { value: Value::Null, metadata: Value::Object(values), secrets: Secrets::default() };
        let mut state = RuntimeState::default();
        let timezone = *context.timezone();
        self.call.resolve(&mut Context::new(&mut target, &mut state, &timezone)).map_err(own_words)
    }

    fn type_def(&self, state: &TypeState) -> TypeDef {
        self.theirs.type_def(state)
    }
}

/// The error without the place in the program that only stands in for a call.
fn own_words(error: ExpressionError) -> ExpressionError {
    let message = error.to_string();
    match message.split_once("): ") {
        Some((before, told)) if before.starts_with("function call error") => told.to_owned().into(),
        _ => message.into(),
    }
}

/// How deep the outcome would be nested, or deeper.
fn depth(name: &str, arguments: &ObjectMap) -> usize {
    let value = arguments.get("value");
    let text = || value.and_then(Value::to_str_lossy).unwrap_or_default();
    match name {
        "parse_xml" => depth_of_elements(&text()),
        "set" => arguments.get("path").and_then(Value::as_array).map_or(0, <[Value]>::len),
        "unflatten" => {
            let separator = arguments.get("separator").and_then(Value::to_str_lossy).unwrap_or(".".into());
            value.map_or(0, |value| depth_of_keys(value, &separator))
        }
        _ => depth_of_brackets(&text()),
    }
}

/// How deep a value is once each part of a key is a level.
fn depth_of_keys(value: &Value, separator: &str) -> usize {
    match value {
        Value::Object(fields) => {
            let each =
                |(key, value): (&KeyString, _)| key.as_str().split(separator).count() + depth_of_keys(value, separator);
            fields.iter().map(each).max().unwrap_or(0)
        }
        Value::Array(items) => 1 + items.iter().map(|item| depth_of_keys(item, separator)).max().unwrap_or(0),
        _ => 0,
    }
}

/// Brackets within strings count too: a text of more than a hundred that stay open is not worth the care.
fn depth_of_brackets(text: &str) -> usize {
    deepest(text.bytes().map(|byte| match byte {
        b'[' | b'{' | b'(' => 1,
        b']' | b'}' | b')' => -1,
        _ => 0,
    }))
}

fn depth_of_elements(text: &str) -> usize {
    let bytes = text.as_bytes();
    deepest(bytes.windows(2).map(|pair| match pair {
        b"</" | b"/>" => -1,
        b"<!" | b"<?" => 0,
        [b'<', _] => 1,
        _ => 0,
    }))
}

fn deepest(steps: impl Iterator<Item = isize>) -> usize {
    let deepest = steps.fold((0_isize, 0), |(depth, deepest), step| {
        let depth = (depth + step).max(0);
        (depth, deepest.max(depth))
    });
    deepest.1.unsigned_abs()
}

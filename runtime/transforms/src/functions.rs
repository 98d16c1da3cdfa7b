//! The functions that programs may call: those whose result depends on their arguments and the record alone.
//!
//! A delivery that is repeated runs the same programs again and must write the same, so this is a list of what is
//! allowed. What VRL adds is refused until somebody has read it: a test names it.

use ::vrl::compiler::function::{Compiled, FunctionCompileContext, Parameter, closure};
use ::vrl::compiler::{Function, TypeState};
use ::vrl::diagnostic::{DiagnosticMessage, Label, Span};
use ::vrl::prelude::{ArgumentList, Example};

use crate::guarded::{self, GUARDED};
use crate::syslog;

/// What is allowed as VRL has it.
const ALLOWED: &[&str] = &[
    "abs",
    "append",
    "array",
    "assert",
    "assert_eq",
    "basename",
    "bool",
    "camelcase",
    "ceil",
    "chunks",
    "community_id",
    "compact",
    "contains",
    "contains_all",
    "crc",
    "decode_base16",
    "decode_base64",
    "decode_charset",
    "decode_mime_q",
    "decode_percent",
    "decode_punycode",
    "del",
    "dirname",
    "downcase",
    "encode_base16",
    "encode_base64",
    "encode_charset",
    "encode_csv",
    "encode_gzip",
    "encode_json",
    "encode_key_value",
    "encode_logfmt",
    "encode_lz4",
    "encode_percent",
    "encode_punycode",
    "encode_snappy",
    "encode_zlib",
    "encode_zstd",
    "ends_with",
    "exists",
    "filter",
    "find",
    "flatten",
    "float",
    "floor",
    "for_each",
    "format_int",
    "format_number",
    "from_entries",
    "from_unix_timestamp",
    "get",
    "haversine",
    "hmac",
    "includes",
    "int",
    "ip_aton",
    "ip_cidr_contains",
    "ip_ntoa",
    "ip_ntop",
    "ip_pton",
    "ip_subnet",
    "ip_to_ipv6",
    "ipv6_to_ipv4",
    "is_array",
    "is_boolean",
    "is_empty",
    "is_float",
    "is_integer",
    "is_ipv4",
    "is_ipv6",
    "is_json",
    "is_null",
    "is_nullish",
    "is_object",
    "is_regex",
    "is_string",
    "is_timestamp",
    "join",
    "kebabcase",
    "keys",
    "length",
    "map_keys",
    "map_values",
    "match",
    "match_any",
    "match_array",
    "match_datadog_query",
    "md5",
    "merge",
    "mod",
    "object",
    "object_from_array",
    "parse_apache_log",
    "parse_aws_alb_log",
    "parse_aws_cloudwatch_log_subscription_message",
    "parse_aws_vpc_flow_log",
    "parse_bytes",
    "parse_cbor",
    "parse_cef",
    "parse_common_log",
    "parse_csv",
    "parse_duration",
    "parse_float",
    "parse_glog",
    "parse_grok",
    "parse_influxdb",
    "parse_int",
    "parse_json",
    "parse_key_value",
    "parse_logfmt",
    "parse_nginx_log",
    "parse_query_string",
    "parse_regex",
    "parse_regex_all",
    "parse_tokens",
    "parse_url",
    "parse_user_agent",
    "pascalcase",
    "pop",
    "push",
    "range",
    "redact",
    "remove",
    "replace",
    "replace_with",
    "round",
    "screamingsnakecase",
    "seahash",
    "sha1",
    "sha2",
    "sha3",
    "shannon_entropy",
    "sieve",
    "slice",
    "snakecase",
    "split",
    "split_path",
    "starts_with",
    "string",
    "strip_ansi_escape_codes",
    "strip_whitespace",
    "strlen",
    "tag_types_externally",
    "tally",
    "tally_value",
    "timestamp",
    "to_bool",
    "to_entries",
    "to_float",
    "to_int",
    "to_regex",
    "to_string",
    "to_syslog_facility",
    "to_syslog_facility_code",
    "to_syslog_level",
    "to_syslog_severity",
    "to_unix_timestamp",
    "truncate",
    "type_def",
    "unique",
    "unnest",
    "upcase",
    "uuid_from_friendly_id",
    "values",
    "xxhash",
    "zip",
];

/// What is allowed where the time zone that it names is no other one tomorrow, or on another machine.
const ZONED: &[&str] = &["format_timestamp", "parse_timestamp"];

const CLOCK: &str = "what it answers depends on the clock, and a delivery that is repeated must write the same again";
const CHANCE: &str = "what it answers is chance, and a delivery that is repeated must write the same again";
const MACHINE: &str = "what it answers depends on the machine, and any machine must write the same";
const NETWORK: &str =
    "what it answers comes over the network and can change, and a delivery that is repeated must write the same again";
const FILES: &str = "it reads files, which can change, and a delivery that is repeated must write the same again";
const EFFECT: &str = "it does something besides answering, and a program may run more than once on a record";
const CIPHER: &str = "a program that is in the configuration is no place for keys";
const BOMB: &str =
    "a small value can inflate to more than there is memory: a source's or sink's own settings inflate within bounds";

/// What is not allowed and why; also what only Vector has, for whoever brings a program from there.
const FORBIDDEN: &[(&str, &str)] = &[
    ("aggregate_vector_metrics", EFFECT),
    ("decode_gzip", BOMB),
    ("decode_lz4", BOMB),
    ("decode_snappy", BOMB),
    ("decode_zlib", BOMB),
    ("decode_zstd", BOMB),
    ("decrypt", CIPHER),
    ("decrypt_ip", CIPHER),
    ("dns_lookup", NETWORK),
    ("encode_proto", FILES),
    ("encrypt", CIPHER),
    ("encrypt_ip", CIPHER),
    ("find_enrichment_table_records", FILES),
    ("find_vector_metrics", MACHINE),
    ("get_enrichment_table_record", FILES),
    ("get_env_var", MACHINE),
    ("get_hostname", MACHINE),
    ("get_secret", MACHINE),
    ("get_timezone_name", MACHINE),
    ("get_vector_metric", MACHINE),
    ("http_request", NETWORK),
    ("log", EFFECT),
    ("now", "what it answers depends on the clock: `%timestamp` is the record's own time"),
    ("parse_etld", FILES),
    ("parse_groks", "its dates take today's offset of a time zone: `parse_grok` and `parse_timestamp` do not"),
    ("parse_klog", "its lines have no year, and it takes the clock's: use `parse_regex` and `parse_timestamp`"),
    ("parse_proto", FILES),
    ("random_bool", CHANCE),
    ("random_bytes", CHANCE),
    ("random_float", CHANCE),
    ("random_int", CHANCE),
    ("remove_secret", EFFECT),
    ("reverse_dns", NETWORK),
    ("set_secret", EFFECT),
    ("set_semantic_meaning", EFFECT),
    ("uuid_v4", CHANCE),
    ("uuid_v7", CLOCK),
    ("validate_json_schema", FILES),
];

/// Every function that programs may call.
pub(crate) fn all() -> Vec<Box<dyn Function>> {
    ::vrl::stdlib::all().into_iter().filter_map(allowed).collect()
}

fn allowed(function: Box<dyn Function>) -> Option<Box<dyn Function>> {
    let compile: Compile = match function.identifier() {
        "parse_syslog" | "parse_linux_authorization" => syslog::compile,
        name if GUARDED.contains(&name) => guarded::compile,
        name if ZONED.contains(&name) => compile_zoned,
        name if ALLOWED.contains(&name) => return Some(function),
        _ => return None,
    };
    Some(Box::new(Watched { function, compile }))
}

/// Why a function is not allowed, if there is such a function.
pub(crate) fn forbidden(name: &str) -> Option<&'static str> {
    FORBIDDEN.iter().find(|(known, _)| *known == name).map(|(_, reason)| *reason)
}

/// Compiles a call of a function whose `timezone` must not be `local`.
fn compile_zoned(
    function: &dyn Function,
    state: &TypeState,
    context: &mut FunctionCompileContext,
    arguments: ArgumentList,
) -> Compiled {
    if let Some(zone) = arguments.optional_literal("timezone", state)? {
        let zone = zone.to_str_lossy().unwrap_or_default();
        if zone.is_empty() || zone == "local" {
            return Err(Box::new(LocalTime(context.span())));
        }
    }
    function.compile(state, context, arguments)
}

/// How a call of a function is compiled.
type Compile = fn(&dyn Function, &TypeState, &mut FunctionCompileContext, ArgumentList) -> Compiled;

/// A function of VRL, calls of which are compiled in another way than VRL's.
#[derive(Debug)]
struct Watched {
    function: Box<dyn Function>,
    compile: Compile,
}

impl Function for Watched {
    fn identifier(&self) -> &'static str {
        self.function.identifier()
    }

    fn usage(&self) -> &'static str {
        self.function.usage()
    }

    fn category(&self) -> &'static str {
        self.function.category()
    }

    fn return_kind(&self) -> u16 {
        self.function.return_kind()
    }

    fn examples(&self) -> &'static [Example] {
        &[]
    }

    fn parameters(&self) -> &'static [Parameter] {
        self.function.parameters()
    }

    fn closure(&self) -> Option<closure::Definition> {
        self.function.closure()
    }

    fn compile(&self, state: &TypeState, context: &mut FunctionCompileContext, arguments: ArgumentList) -> Compiled {
        (self.compile)(&*self.function, state, context, arguments)
    }
}

/// The time zone of the machine was asked for.
#[derive(Debug, thiserror::Error)]
#[error("the time zone `local` is not allowed here: any machine must write the same; name one, like `Europe/Berlin`")]
struct LocalTime(Span);

impl DiagnosticMessage for LocalTime {
    fn code(&self) -> usize {
        0
    }

    fn labels(&self) -> Vec<Label> {
        vec![Label::primary("asks for the machine's time zone", self.0)]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_function_of_vrl_was_judged() {
        let there_are: BTreeSet<_> = ::vrl::stdlib::all().iter().map(|function| function.identifier()).collect();
        let ours = ["parse_syslog", "parse_linux_authorization"];
        let allowed: BTreeSet<_> = ALLOWED.iter().chain(ZONED).chain(GUARDED).chain(&ours).copied().collect();
        let forbidden: BTreeSet<_> = FORBIDDEN.iter().map(|(name, _)| *name).collect();
        let unjudged: Vec<_> =
            there_are.iter().filter(|name| !allowed.contains(*name) && !forbidden.contains(*name)).collect();
        assert!(unjudged.is_empty(), "read these and list them: {unjudged:?}");
        assert_eq!(allowed.intersection(&forbidden).count(), 0);
        assert_eq!(allowed.difference(&there_are).collect::<Vec<_>>(), Vec::<&&str>::new());
    }

    /// Whoever has a parameter of that name takes a time zone.
    #[test]
    fn every_function_that_takes_a_time_zone_is_watched() {
        let takes =
            |function: &dyn Function| function.parameters().iter().any(|parameter| parameter.keyword == "timezone");
        let found: Vec<_> = ::vrl::stdlib::all().iter().filter(|it| takes(&***it)).map(|it| it.identifier()).collect();
        assert_eq!(found, ZONED);
    }
}

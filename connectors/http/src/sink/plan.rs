//! What a record becomes in a request, and how much goes in one: from the settings, so that it stays the same.

use aqueduct_api::template::{Piece, Template};
use aqueduct_api::{Error, Result, TopicPartition};
use aqueduct_record::Record;
use serde::de::IgnoredAny;

use crate::escape;
use crate::sink::settings::{Format, HttpSinkSettings};
use crate::sink::target::Templates;

/// What shapes requests.
pub(crate) struct Plan {
    pub(crate) templates: Templates,
    format: Format,
    body: Option<Template>,
    body_is_json: bool,
    /// How many records go in one request at most.
    pub(crate) most_records: usize,
    /// How many bytes a request's body has at most, where it holds more than one record.
    pub(crate) most_bytes: usize,
}

impl Plan {
    /// What the settings say, which were checked before.
    pub(crate) fn new(settings: &HttpSinkSettings) -> Result<Self> {
        let body = settings.body.as_deref().map(Template::parse).transpose();
        let named_json = settings.content_type.as_deref().is_some_and(|name| name.contains("json"));
        Ok(Plan {
            templates: Templates::new(settings)?,
            format: settings.format,
            body: body.map_err(|why| Error::fatal(format!("setting body: {why}")))?,
            body_is_json: named_json || matches!(settings.format, Format::JsonArray | Format::JsonLines),
            most_records: if settings.format == Format::Record { 1 } else { settings.request_records as usize },
            most_bytes: settings.request_bytes.0 as usize,
        })
    }

    /// Appends what a record becomes; the error says why it can not.
    pub(crate) fn encode(&self, of: &TopicPartition, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        let start = out.len();
        match &self.body {
            None => out.extend_from_slice(record.value.ok_or("the record has no value")?),
            Some(template) => template.fill(of, record, |piece| match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Said(text) if self.body_is_json => escape::json(text, out),
                Piece::Said(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Value(bytes) => out.extend_from_slice(bytes),
            })?,
        }
        if matches!(self.format, Format::JsonArray | Format::JsonLines) {
            let not_json = |cause: &dyn std::fmt::Display| format!("it is not JSON, which `format` asks for: {cause}");
            // What is ignored is not looked at: bytes in a string would pass that are no text.
            let text = std::str::from_utf8(&out[start..]).map_err(|cause| not_json(&cause))?;
            serde_json::from_str::<IgnoredAny>(text).map_err(|cause| not_json(&cause))?;
            // Within JSON a line only ends between words.
            out[start..].iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
        }
        Ok(())
    }

    /// How many bytes a record of `length` bytes takes in a body.
    pub(crate) fn weight(&self, length: usize) -> usize {
        match self.format {
            Format::Firehose => length.div_ceil(3) * 4 + r#"{"data":""},"#.len(),
            _ => length + 1,
        }
    }
}

//! How the settings name objects: which folder a record goes to, and what the object in it is called.

use aqueduct_api::{Error, Problem, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::S3Settings;
use crate::clock::Clock;
use crate::compressor::Compression;
use crate::format::Format;
use crate::layout::{Layout, Style};
use crate::template::Template;

/// Confluent's partitioners.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ConfluentLayout {
    /// `partition=0`.
    #[default]
    Partition,
    /// `year=2026/month=05/day=12`.
    Daily,
    /// `year=2026/month=05/day=12/hour=10`.
    Hourly,
    /// A time, as strftime writes it.
    Time(String),
    /// `a=x/b.c=y`: fields of a JSON value.
    Fields(Vec<String>),
}

impl S3Settings {
    /// What is wrong with the settings that name objects.
    pub(crate) fn name_problems(&self, problems: &mut Vec<Problem>) {
        if let (Some(path), false) = (&self.path, self.layout == ConfluentLayout::Partition) {
            problems.push(Problem::new("path", format!("`{path}` and `layout` exclude each other: leave one out")));
        }
        if let ConfluentLayout::Fields(fields) = &self.layout
            && fields.is_empty()
        {
            problems.push(Problem::new("layout.fields", "names no field"));
        }
        if let Err((setting, why)) = self.clock() {
            problems.push(Problem::new(setting, why));
        }
        let template = Template::parse(&self.template());
        if let Ok(template) = &template {
            for (setting, is_set) in
                [("time-field", self.time_field.is_some()), ("time-zone", self.time_zone.is_some())]
            {
                let is_idle = is_set && !template.has_time();
                problems.extend(is_idle.then(|| Problem::new(setting, "there is no time in the objects' names")));
            }
            if self.missing.is_some() && !template.can_miss() {
                problems.push(Problem::new("missing", "the objects' names need nothing that a record may not have"));
            }
        }
        if self.missing.as_ref().is_some_and(String::is_empty) {
            problems.push(Problem::new("missing", "is empty, and so would be a part of a name"));
        }
        if let Err(why) = template {
            let setting = match (&self.path, &self.layout) {
                (Some(_), _) => "path",
                (None, ConfluentLayout::Time(_)) => "layout.time",
                (None, ConfluentLayout::Fields(_)) => "layout.fields",
                (None, _) => "topics-dir",
            };
            problems.push(Problem::new(setting, why));
        }
    }

    /// The folder of a record's object, as a template.
    pub(crate) fn template(&self) -> String {
        if let Some(path) = &self.path {
            return path.clone();
        }
        let inner = match &self.layout {
            ConfluentLayout::Partition => "partition={partition}".to_owned(),
            ConfluentLayout::Daily => "{timestamp:year=%Y/month=%m/day=%d}".to_owned(),
            ConfluentLayout::Hourly => "{timestamp:year=%Y/month=%m/day=%d/hour=%H}".to_owned(),
            ConfluentLayout::Time(format) => format!("{{timestamp:{format}}}"),
            ConfluentLayout::Fields(fields) => {
                fields.iter().map(|field| format!("{field}={{field:{field}}}")).collect::<Vec<_>>().join("/")
            }
        };
        match self.topics_dir.as_str() {
            "" => format!("{{topic}}/{inner}"),
            folder => format!("{folder}/{{topic}}/{inner}"),
        }
    }

    /// Format and compression as Confluent's sink, or else everybody, calls them.
    pub(crate) fn extension(&self) -> String {
        let outer = match self.compression() {
            Compression::None => "",
            Compression::Gzip => ".gz",
            Compression::Zstd => ".zst",
            Compression::Snappy => ".sz",
            Compression::Lz4 => ".lz4",
        };
        let inner = match self.compression() {
            Compression::None => "",
            Compression::Gzip => ".gz",
            Compression::Zstd => ".zstd",
            Compression::Snappy => ".snappy",
            Compression::Lz4 => ".lz4raw",
        };
        match self.format {
            Format::Lines if self.path.is_none() => format!(".bin{outer}"),
            Format::Lines => format!(".txt{outer}"),
            Format::JsonLines => format!(".json{outer}"),
            Format::Records => format!(".records.json{outer}"),
            Format::Csv => format!(".csv{outer}"),
            Format::Avro => ".avro".to_owned(),
            Format::Parquet => format!("{inner}.parquet"),
        }
    }

    fn clock(&self) -> Result<Clock, (&'static str, String)> {
        Clock::parse(self.time_field.as_deref(), self.time_format.as_deref(), self.time_zone.as_deref())
    }

    /// The layout that the settings say.
    pub(crate) fn names(&self) -> Result<Layout> {
        let fatal = |setting: &str, why: String| Error::fatal(format!("setting {setting}: {why}"));
        let folder = Template::parse(&self.template()).map_err(|why| fatal("path", why))?;
        let clock = self.clock().map_err(|(setting, why)| fatal(setting, why))?;
        let folder = folder.with(clock, self.missing.clone());
        let style = if self.path.is_some() { Style::Chunk } else { Style::Confluent };
        Ok(Layout { folder, style, extension: self.extension() })
    }
}

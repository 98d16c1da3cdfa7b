//! How decimals and times are written in JSON.

use schemars::JsonSchema;
use serde::Deserialize;

/// As what something is written in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Written {
    /// As text.
    #[default]
    Text,
    /// As a number.
    Number,
}

/// How decimals and times are written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Style {
    pub(crate) decimals: Written,
    pub(crate) times: Written,
}

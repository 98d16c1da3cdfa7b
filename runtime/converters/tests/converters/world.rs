//! A converter by its settings, a value to put through it, and what came of it in one line.

use std::path::PathBuf;

use aqueduct_api::{Draft, Edge, Problem, Registry, Result, Transform, TransformOpening, Trial};
use aqueduct_converters::{Decode, Encode};
use serde_json::Value;

pub(crate) fn registry() -> Registry {
    Registry::default().transform::<Decode>().transform::<Encode>()
}

pub(crate) fn problems(name: &str, settings: Value) -> Vec<Problem> {
    registry().transforms[name].problems(&settings)
}

/// To be called on a runtime.
pub(crate) fn try_open(name: &str, settings: Value) -> Result<Box<dyn Transform>> {
    open_for(name, settings, None)
}

/// The same, only to be tried where `trial` is given.
pub(crate) fn open_for(name: &str, settings: Value, trial: Option<Trial>) -> Result<Box<dyn Transform>> {
    let opening = TransformOpening { folder: PathBuf::from("/"), edge: Edge::real(), trial };
    registry().transforms[name].open(settings, opening)
}

pub(crate) fn open(name: &str, settings: Value) -> Box<dyn Transform> {
    let shown = settings.to_string();
    try_open(name, settings).unwrap_or_else(|error| panic!("{shown}: {error}"))
}

/// A record of the topic `orders`.
pub(crate) fn draft<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Draft<'a> {
    Draft {
        topic: "orders".into(),
        partition: Some(0),
        offset: 7,
        timestamp: 1_767_225_600_000,
        key: key.map(Into::into),
        value: value.map(Into::into),
        headers: Vec::new(),
    }
}

/// The value that it makes of a value.
///
/// # Errors
/// Why it makes none.
pub(crate) async fn made(transform: &dyn Transform, value: &[u8]) -> Result<Vec<u8>, String> {
    let done = transform.apply(vec![draft(None, Some(value))]).await.map_err(|error| format!("stopped: {error}"))?;
    match (&done.unfit[..], &done.drafts[..]) {
        ([], [draft]) => Ok(draft.value.as_deref().unwrap_or(b"(null)").to_vec()),
        ([unfit], []) => {
            assert_eq!(unfit.offset, 7);
            Err(unfit.reason.clone())
        }
        _ => panic!("{done:?}"),
    }
}

/// The same, as text.
pub(crate) async fn text(transform: &dyn Transform, value: &[u8]) -> Result<String, String> {
    made(transform, value).await.map(|bytes| String::from_utf8(bytes).unwrap())
}

/// A payload behind a zero and the id of its schema.
pub(crate) fn frame(id: u32, payload: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], payload].concat()
}

//! A transform by its name and program, a draft to put through it, and what came of it in one line.

use std::path::PathBuf;

use aqueduct_api::{Draft, Edge, Problem, Registry, Transform, TransformOpening};
use aqueduct_transforms::{Filter, Route, Vrl};

/// Waits for what never waits.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

pub(crate) fn registry() -> Registry {
    Registry::default().transform::<Vrl>().transform::<Filter>().transform::<Route>()
}

pub(crate) fn problems(name: &str, program: &str) -> Vec<Problem> {
    registry().transforms[name].problems(&program.into())
}

pub(crate) fn open(name: &str, program: &str) -> Box<dyn Transform> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _on_it = runtime.enter();
    let opening = TransformOpening { folder: PathBuf::from("/"), edge: Edge::real(), trial: None };
    let opened = registry().transforms[name].open(program.into(), opening);
    opened.unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// A record of a source; of a sink's topic where it has a partition.
pub(crate) fn draft(value: Option<&[u8]>) -> Draft<'_> {
    let headers = [("a", Some("1")), ("b", None), ("a", Some("2"))];
    Draft {
        topic: "logs".into(),
        partition: None,
        offset: 7,
        timestamp: 1_767_225_600_000,
        key: Some(b"k"[..].into()),
        value: value.map(Into::into),
        headers: headers.map(|(name, value)| (name.into(), value.map(|value| value.as_bytes().into()))).to_vec(),
    }
}

/// `made | made`, `dropped`, or `unfit: why`.
pub(crate) fn told(transform: &dyn Transform, draft: Draft<'_>, shown: impl Fn(&Draft<'_>) -> String) -> String {
    let offset = draft.offset;
    let done = block_on(transform.apply(vec![draft])).unwrap();
    assert!(done.drafts.iter().all(|draft| draft.offset == offset) && done.unfit.iter().all(|it| it.offset == offset));
    match (&done.unfit[..], &done.drafts[..]) {
        ([], []) => "dropped".to_owned(),
        ([], made) => made.iter().map(shown).collect::<Vec<_>>().join(" | "),
        ([unfit], []) => format!("unfit: {}", unfit.reason),
        _ => panic!("a draft that is unfit and made something of"),
    }
}

pub(crate) fn value(draft: &Draft<'_>) -> String {
    draft.value.as_ref().map_or_else(|| "null".to_owned(), |value| String::from_utf8_lossy(value).into_owned())
}

pub(crate) fn outline(draft: &Draft<'_>) -> String {
    let text = |bytes: Option<&[u8]>| bytes.map_or("null".into(), |bytes| String::from_utf8_lossy(bytes).into_owned());
    let headers = draft.headers.iter().map(|(name, value)| format!("{name}={}", text(value.as_deref())));
    let headers = headers.collect::<Vec<_>>().join(",");
    format!("{} {} {} {headers}", draft.topic, draft.timestamp, text(draft.key.as_deref()))
}

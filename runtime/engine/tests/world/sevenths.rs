//! A transform that does something else with each line, by its number.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aqueduct_api::{
    Draft, Error, POSITION_HEADER, Result, Settings, Transform, TransformOpening, TransformSettings, Transformed, Unfit,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;

/// Of lines `stream n` those with n % 7 = 0 are dropped, 1 doubled, 2 unfit, 3 sent to another topic if there is one; all
/// others get a suffix. Now and then, ever more seldom, it has to be asked again.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sevenths {
    suffix: String,
    #[serde(default)]
    route: Option<String>,
    #[serde(default)]
    #[schemars(extend("x-shaping" = false))]
    fails: bool,
    /// Where unfit lines are so for now: they are known later, after a line's own number of questions. Who asks under the same
    /// name knows the same.
    #[serde(default)]
    #[schemars(extend("x-shaping" = false))]
    learns: Option<String>,
}

/// How often each line was asked about, by who asked.
static ASKED: Mutex<BTreeMap<(String, String), u64>> = Mutex::new(BTreeMap::new());

/// Whether a line is known by now.
fn learnt(name: &str, line: &str) -> bool {
    let mut asked = ASKED.lock();
    let asked = asked.entry((name.to_owned(), line.to_owned())).or_default();
    *asked += 1;
    let number: u64 = line.split(' ').next_back().and_then(|number| number.parse().ok()).unwrap_or_default();
    *asked > number % 4
}

/// What becomes of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    Made(Vec<String>),
    Unfit,
    Sent(String),
}

/// What becomes of a line, under a suffix.
pub fn fate(line: &str, suffix: &str, routes: bool) -> Fate {
    let number = line.split_once(' ').and_then(|(_, number)| number.parse::<u64>().ok());
    match number.map(|number| number % 7) {
        Some(0) => Fate::Made(Vec::new()),
        Some(1) => Fate::Made(vec![line.to_owned(), line.to_owned()]),
        Some(2) => Fate::Unfit,
        Some(3) if routes => Fate::Sent(line.to_owned()),
        Some(_) => Fate::Made(vec![format!("{line}{suffix}")]),
        None => Fate::Made(vec![line.to_owned()]),
    }
}

impl Settings for Sevenths {
    const NAME: &'static str = "sevenths";
    const SUMMARY: &'static str = "does something else with each line";
}

impl TransformSettings for Sevenths {
    fn open(self, _: TransformOpening) -> Result<Box<dyn Transform>> {
        Ok(Box::new(Opened { settings: self, calls: Arc::default() }))
    }
}

struct Opened {
    settings: Sevenths,
    calls: Arc<AtomicU64>,
}

#[async_trait]
impl Transform for Opened {
    async fn apply<'a>(&self, drafts: Vec<Draft<'a>>) -> Result<Transformed<'a>> {
        tokio::task::yield_now().await;
        let Sevenths { suffix, route, fails, learns } = &self.settings;
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        if *fails && calls.is_power_of_two() {
            return Err(Error::retry("the transform has to be asked again"));
        }
        let mut all = Transformed::default();
        for draft in drafts {
            assert!(draft.headers.iter().all(|(name, _)| name != POSITION_HEADER), "{draft:?}");
            let line = String::from_utf8_lossy(draft.value.as_deref().unwrap_or_default()).into_owned();
            match fate(&line, suffix, route.is_some()) {
                Fate::Made(lines) => {
                    let made = |line: String| Draft { value: Some(Cow::Owned(line.into_bytes())), ..draft.clone() };
                    all.drafts.extend(lines.into_iter().map(made));
                }
                Fate::Unfit if learns.as_ref().is_some_and(|name| learnt(name, &line)) => {
                    let value = Some(Cow::Owned(format!("{line}{suffix}").into_bytes()));
                    all.drafts.push(Draft { value, ..draft });
                }
                Fate::Unfit => {
                    let (reason, for_now) = (format!("nothing to be made of {line}"), learns.is_some());
                    all.unfit.push(Unfit { offset: draft.offset, reason, for_now });
                }
                Fate::Sent(_) => {
                    let topic = Cow::Owned(route.clone().unwrap_or_default());
                    all.drafts.push(Draft { topic, ..draft });
                }
            }
        }
        Ok(all)
    }
}

//! The transforms of one source or sink, one after the other.

use std::collections::BTreeSet;

use aqueduct_api::{
    Draft, Error, POSITION_HEADER, REPLAYED_HEADER, Registry, Result, Transform, TransformOpening, Transformed, Unfit,
};
use aqueduct_record::{BatchBuilder, Offset};

use crate::{Resolve, TransformPlan};

/// Transforms that records go through in order.
pub struct Transforms(Vec<(String, Box<dyn Transform>)>);

impl Transforms {
    /// Opens transforms; references in their settings are resolved here.
    ///
    /// # Errors
    /// `Fatal` when there is no such transform or its settings are wrong.
    pub fn open(
        registry: &Registry,
        resolve: &Resolve,
        plans: &[TransformPlan],
        opening: &TransformOpening,
    ) -> Result<Transforms> {
        let open = |plan: &TransformPlan| {
            let TransformPlan { transform: name, settings } = plan;
            let kind = registry.transforms.get(name.as_str());
            let kind = kind.ok_or_else(|| Error::fatal(format!("no transform `{name}`")))?;
            let opened = resolve(settings).and_then(|settings| kind.open(settings, opening.clone()));
            opened.map(|opened| (name.clone(), opened)).map_err(|error| error.context(told(name)))
        };
        plans.iter().map(open).collect::<Result<_>>().map(Transforms)
    }

    /// Whether there are none: records go on as they are.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes drafts, ascending by offset, through all of them. What is unfit for one goes no further, and nothing that was
    /// made of it does.
    ///
    /// # Errors
    /// As a transform answers; `Fatal` where one does not keep offsets.
    pub async fn apply<'a>(&self, drafts: Vec<Draft<'a>>) -> Result<Transformed<'a>> {
        let mut all = Transformed { drafts, unfit: Vec::new() };
        for (name, transform) in &self.0 {
            let given: Vec<Offset> = all.drafts.iter().map(|draft| draft.offset).collect();
            let made = transform.apply(all.drafts).await.map_err(|error| error.context(told(name)))?;
            let mut drafts = made.drafts;
            if !follow(&given, drafts.iter().map(|draft| draft.offset)) {
                return Err(Error::fatal(format!("{} does not keep the offsets of records", told(name))));
            }
            let unfit: BTreeSet<Offset> = made.unfit.iter().map(|unfit| unfit.offset).collect();
            if !follow(&given, unfit.iter().copied()) {
                return Err(Error::fatal(format!("{} calls records unfit that it was not given", told(name))));
            }
            if !unfit.is_empty() {
                drafts.retain(|draft| !unfit.contains(&draft.offset));
            }
            let named = |unfit: Unfit| Unfit { reason: format!("{name}: {}", unfit.reason), ..unfit };
            all.drafts = drafts;
            all.unfit.extend(made.unfit.into_iter().map(named));
        }
        all.unfit.sort_by_key(|unfit| unfit.offset);
        all.unfit.dedup_by_key(|unfit| unfit.offset);
        Ok(all)
    }
}

/// Adds what became of a draft to a batch, without what belongs to the runtime.
pub(crate) fn push(builder: &mut BatchBuilder, draft: &Draft<'_>) {
    let ours = |(name, _): &(&str, Option<&[u8]>)| *name != POSITION_HEADER && *name != REPLAYED_HEADER;
    let headers = draft.headers.iter().map(|(name, value)| (&**name, value.as_deref()));
    let headers: Vec<_> = headers.filter(ours).collect();
    builder.push(draft.timestamp, draft.key.as_deref(), draft.value.as_deref(), &headers);
}

/// Whether offsets ascend, perhaps repeating, and were all given.
fn follow(given: &[Offset], offsets: impl Iterator<Item = Offset>) -> bool {
    let mut given = given.iter().copied().peekable();
    for offset in offsets {
        while given.next_if(|given| *given < offset).is_some() {}
        if given.peek() != Some(&offset) {
            return false;
        }
    }
    true
}

fn told(name: &str) -> String {
    format!("transform `{name}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_ascend_and_are_those_that_were_given() {
        let cases: [(&[Offset], bool); 6] =
            [(&[], true), (&[1, 1, 5], true), (&[5, 7], true), (&[2], false), (&[5, 1], false), (&[8], false)];
        for (offsets, ok) in cases {
            assert_eq!(follow(&[1, 5, 5, 7], offsets.iter().copied()), ok, "{offsets:?}");
        }
    }
}

//! What simulated worlds have in common: their numbers, and deliberate mistakes that they have to notice.

use aqueduct_api::fault::{Mutant, mutate};

/// How many worlds may pass before a mistake is noticed.
const NOTICED_WITHIN: u64 = 300;

/// Numbers that are the same in each run: SplitMix64.
pub(crate) struct Dice(u64);

impl Dice {
    /// The numbers of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Dice(seed)
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.bits() % end
    }

    /// Whether something that happens once in `often` does.
    pub(crate) fn once_in(&mut self, often: u64) -> bool {
        self.below(often) == 0
    }
}

/// Asks of a deliberate mistake that some world finds something wrong; `finds` says whether that of a seed does.
pub(crate) fn is_noticed(mutant: Mutant, finds: impl FnMut(&u64) -> bool) {
    mutate(Some(mutant));
    let noticed = (0..NOTICED_WITHIN).find(finds);
    mutate(None);
    assert!(noticed.is_some(), "{mutant:?} is not noticed in {NOTICED_WITHIN} worlds");
}

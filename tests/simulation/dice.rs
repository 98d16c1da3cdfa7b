//! Chance from a seed: SplitMix64 (Steele, Lea, Flood 2014), so that a seed means the same run with every release of
//! every library.

use std::sync::Mutex;

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// The stream of `seed`, apart from those of other `purpose`s.
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        let purpose = purpose
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let mut dice = Dice(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ purpose);
        dice.bits();
        dice
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// One of `0..limit`; 0 where that is empty.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { self.bits() % limit }
    }

    /// One of `from..=to`.
    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    /// True `count` times in a thousand.
    pub(crate) fn permille(&mut self, count: u64) -> bool {
        self.below(1000) < count
    }

    /// True once in `count`.
    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// One of `choices`.
    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }
}

/// The chance that the code under test gets.
pub(crate) struct SimChance(Mutex<Dice>);

impl SimChance {
    pub(crate) fn new(dice: Dice) -> Self {
        SimChance(Mutex::new(dice))
    }
}

impl aqueduct_api::edge::Chance for SimChance {
    fn bits(&self) -> u64 {
        self.0.lock().unwrap().bits()
    }
}

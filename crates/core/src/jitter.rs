//! Spreading things in time, so that workers do not all do the same at once.
//!
//! `core` knows no randomness: the seed is given, and the same seed gives the same numbers. The generator is
//! `SplitMix64` (Steele, Lea, Flood 2014).

use std::time::Duration;

/// A series of pseudo-random numbers.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Jitter(u64);

impl Jitter {
    /// The series of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to 999.
    fn permille(&mut self) -> u64 {
        self.next() % 1000
    }

    /// `duration`, or up to `percent` (at most 100) of it less.
    pub fn shorten(&mut self, duration: Duration, percent: u32) -> Duration {
        let off = self.permille() * u64::from(percent.min(100));
        let parts = u32::try_from(100_000 - off).unwrap_or(100_000);
        duration.mul_f64(f64::from(parts) / 100_000.0)
    }

    /// `amount`, or up to `percent` (at most 100) of it less.
    pub fn reduce(&mut self, amount: u64, percent: u64) -> u64 {
        amount - amount / 100_000 * (self.permille() * percent.min(100))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_its_bounds_and_differs() {
        let mut jitter = Jitter::new(7);
        let second = Duration::from_secs(1);
        let values: Vec<Duration> = (0..100).map(|_| jitter.shorten(second, 20)).collect();
        assert!(values.iter().all(|v| *v <= second && *v >= second.mul_f64(0.8)));
        assert!(values.iter().any(|v| *v != values[0]));
        assert_eq!(jitter.shorten(Duration::ZERO, 20), Duration::ZERO);
        for _ in 0..100 {
            let reduced = jitter.reduce(1_000_000_000, 10);
            assert!((900_000_000..=1_000_000_000).contains(&reduced));
        }
    }
}

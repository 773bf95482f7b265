//! What a packet network does: it loses, delays and reorders. For tests and benchmarks; a seed replays it.

use crate::channel::Random;

/// How bad a network is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Network {
    /// Share of packets that never come, 0 to 1.
    pub loss: f32,
    /// How many are lost in a row on average; 1 for losses that know nothing of each other.
    pub burst: f32,
    /// Each packet takes as much longer or shorter than the mean at most, and any time between is as likely; so packets
    /// overtake each other. As `tc netem delay 60ms 60ms` does with 60.
    pub jitter_ms: u32,
}

impl Network {
    /// One that brings every packet at once.
    pub const CLEAN: Self = Self { loss: 0.0, burst: 1.0, jitter_ms: 0 };

    /// Sends packets, one every 20 ms from 0 on. Returns when those that come arrive, in µs, and which they are, in
    /// the order of their arrival. The quickest way takes no time.
    #[must_use]
    pub fn arrivals(&self, packets: usize, seed: u64) -> Vec<(u64, usize)> {
        let mut random = Random::new(seed);
        let mut share = || (random.next() + 1.0) / 2.0;
        // Gilbert's two states, of which the one loses all: how likely it goes on, and how likely it begins.
        let stays = if self.burst > 1.0 { 1.0 - 1.0 / self.burst } else { self.loss };
        let begins = (self.loss * (1.0 - stays) / (1.0 - self.loss).max(f32::EPSILON)).min(1.0);
        let mut lost = false;
        let mut arrivals = Vec::with_capacity(packets);
        for packet in 0..packets {
            lost = share() < if lost { stays } else { begins };
            let late = share() * 2_000.0 * self.jitter_ms as f32;
            if !lost {
                arrivals.push((packet as u64 * 20_000 + late as u64, packet));
            }
        }
        arrivals.sort_unstable();
        arrivals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_as_many_and_as_long_as_asked_for() {
        for (loss, burst) in [(0.05, 1.0), (0.1, 1.0), (0.05, 3.0), (0.1, 5.0)] {
            let network = Network { loss, burst, jitter_ms: 0 };
            let mut came = vec![false; 200_000];
            for (_, packet) in network.arrivals(came.len(), 1) {
                came[packet] = true;
            }
            let lost = came.iter().filter(|came| !**came).count();
            let gaps = came.chunk_by(|a, b| a == b).filter(|run| !run[0]).count();
            let (share, length) = (lost as f32 / came.len() as f32, lost as f32 / gaps as f32);
            assert!((share / loss - 1.0).abs() < 0.1, "{network:?}: {share}");
            let wanted = if burst > 1.0 { burst } else { 1.0 / (1.0 - loss) };
            assert!((length / wanted - 1.0).abs() < 0.1, "{network:?}: {length}");
        }
    }

    #[test]
    fn delays_are_spread_evenly_and_packets_overtake_each_other() {
        let network = Network { jitter_ms: 60, ..Network::CLEAN };
        let arrivals = network.arrivals(10_000, 2);
        assert_eq!(arrivals.len(), 10_000);
        let late: Vec<_> = arrivals.iter().map(|(at, packet)| at - *packet as u64 * 20_000).collect();
        assert!(late.iter().all(|late| *late < 120_000));
        let quarter = late.iter().filter(|late| **late < 30_000).count();
        assert!((2_300..2_700).contains(&quarter), "{quarter}");
        assert!(arrivals.is_sorted());
        assert!(arrivals.windows(2).any(|two| two[1].1 < two[0].1));
    }

    #[test]
    fn the_seed_decides() {
        let network = Network { loss: 0.1, burst: 2.0, jitter_ms: 30 };
        assert_eq!(network.arrivals(500, 7), network.arrivals(500, 7));
        assert_ne!(network.arrivals(500, 7), network.arrivals(500, 8));
        let all: Vec<_> = (0..50).map(|n| (n as u64 * 20_000, n)).collect();
        assert_eq!(Network::CLEAN.arrivals(50, 1), all);
    }
}

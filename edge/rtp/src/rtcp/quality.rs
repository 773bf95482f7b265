//! How a call sounds, estimated from what the network did to it: the E-model (ITU-T G.107).
//!
//! Everything that is not measured here (levels, echo, room noise) stands at the standard's default, for which a
//! perfect network gives R = 93.2, MOS 4.41. Delay counts by Idd (§7.3), loss by Ie,eff (§7.4 with appendix I of
//! G.113 for the robustness of each codec).

use std::time::Duration;

use super::ReceptionStats;

/// How a receiver bears lost packets (ITU-T G.113 appendix I).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Robustness {
    /// Impairment of the codec itself, Ie.
    pub impairment: f32,
    /// How much random loss it bears, Bpl.
    pub loss_robustness: f32,
}

impl Robustness {
    /// G.711 with concealment of lost frames (G.711 appendix I).
    pub const G711_CONCEALED: Self = Self { impairment: 0.0, loss_robustness: 25.1 };
    /// G.711 that plays silence for lost frames.
    pub const G711: Self = Self { impairment: 0.0, loss_robustness: 4.3 };
}

/// An estimate of how one direction of a call sounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// Transmission rating factor R, 0 to 93.2 here.
    pub r_factor: f32,
    /// Mean opinion score, listening and talking, 1 to 4.5.
    pub mos: f32,
}

/// Estimates quality.
///
/// `loss` is the share of packets that were not played, lost or too late, from 0 to 1; `burst_ratio` is 1 for random
/// loss and grows with its burstiness (G.107 §3.5); `delay` is from mouth to ear, one way, with the jitter buffer.
#[must_use]
pub fn estimate(robustness: Robustness, loss: f32, burst_ratio: f32, delay: Duration) -> Quality {
    let loss_percent = 100.0 * if loss.is_finite() { loss.clamp(0.0, 1.0) } else { 1.0 };
    let burst_ratio = if burst_ratio.is_finite() { burst_ratio.max(1.0) } else { 1.0 };
    let ie = robustness.impairment;
    let borne = (loss_percent / burst_ratio + robustness.loss_robustness).max(f32::EPSILON);
    let loss_impairment = ie + (95.0 - ie) * loss_percent / borne;
    let r_factor = (PERFECT - delay_impairment(delay) - loss_impairment).clamp(0.0, 100.0);
    Quality { r_factor, mos: mos_of(r_factor) }
}

impl ReceptionStats {
    /// Estimates how the peer sounds here; `delay` is from mouth to ear, one way: half the round trip, plus
    /// packetisation and jitter buffer.
    #[must_use]
    pub fn quality(&self, robustness: Robustness, delay: Duration) -> Quality {
        estimate(robustness, self.loss_fraction, 1.0, delay)
    }
}

/// R with every other parameter at its default (G.107 §7.8).
const PERFECT: f32 = 93.2;

/// Idd: nothing up to 100 ms (§7.3).
fn delay_impairment(delay: Duration) -> f32 {
    let ms = delay.as_secs_f32() * 1_000.0;
    if ms <= 100.0 {
        return 0.0;
    }
    let x = (ms / 100.0).log2();
    let sixth = |base: f32| (1.0 + base.powi(6)).powf(1.0 / 6.0);
    25.0 * (sixth(x) - 3.0 * sixth(x / 3.0) + 2.0)
}

/// Converts R to MOS (G.107 annex B).
fn mos_of(r: f32) -> f32 {
    if r <= 0.0 {
        return 1.0;
    }
    if r >= 100.0 {
        return 4.5;
    }
    (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).max(1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ratings_become_the_scores_of_the_standards_table() {
        for (r, mos) in [(93.2, 4.41), (90.0, 4.34), (80.0, 4.02), (70.0, 3.60), (60.0, 3.10), (50.0, 2.58)] {
            assert!((mos_of(r) - mos).abs() < 0.01, "{r}: {}", mos_of(r));
        }
    }

    #[test]
    fn loss_and_delay_cost_what_they_should() {
        let ms = Duration::from_millis;
        let of = |robustness, loss, delay| estimate(robustness, loss, 1.0, ms(delay)).r_factor;
        assert!((of(Robustness::G711_CONCEALED, 0.0, 50) - 93.2).abs() < 0.01);
        // 95 · 1 / (1 + 25.1) and 95 · 1 / (1 + 4.3).
        assert!((of(Robustness::G711_CONCEALED, 0.01, 50) - (93.2 - 3.64)).abs() < 0.01);
        assert!((of(Robustness::G711, 0.01, 50) - (93.2 - 17.92)).abs() < 0.01);
        // X = 2: 25 · (65^(1/6) − 3 · (1 + (2/3)^6)^(1/6) + 2).
        assert!((of(Robustness::G711_CONCEALED, 0.0, 400) - (93.2 - 24.1)).abs() < 0.2);
    }

    proptest! {
        #[test]
        fn more_loss_or_delay_never_sounds_better(loss in 0.0f32..1.0, more in 0.0f32..0.5, ms in 0u64..2_000, later in 0u64..1_000) {
            let of = |loss, ms| estimate(Robustness::G711_CONCEALED, loss, 1.0, Duration::from_millis(ms)).mos;
            // Below R = 6.5 the standard's curve itself turns up by a hair.
            prop_assert!(of(loss + more, ms) <= of(loss, ms) + 0.02);
            prop_assert!(of(loss, ms + later) <= of(loss, ms) + 0.02);
            prop_assert!((1.0..=4.5).contains(&of(loss, ms)));
        }

        #[test]
        fn no_figures_break_it(loss: f32, burst: f32, ms: u32, ie: f32, bpl: f32) {
            let robustness = Robustness { impairment: ie.clamp(-100.0, 100.0), loss_robustness: bpl.clamp(0.0, 1e6) };
            let quality = estimate(robustness, loss, burst, Duration::from_millis(u64::from(ms)));
            prop_assert!((0.0..=100.0).contains(&quality.r_factor) || quality.r_factor.is_nan());
        }
    }
}

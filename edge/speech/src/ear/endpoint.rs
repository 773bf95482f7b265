//! How much silence ends a turn: a plain function of what is known.

/// What kind of answer a node expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Endpoint {
    /// Yes or no, one of a few choices.
    Short,
    /// A sentence.
    #[default]
    Normal,
    /// Digits, an address, a story: pauses belong to it.
    Long,
}

/// What is known of the turn at a pause.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Verdict {
    /// The end-of-turn model's probability, once it has spoken.
    pub complete: Option<f32>,
    /// Whether the words so far are something the node expects, once they are recognised.
    pub matched: Option<bool>,
}

/// Returns the silence in ms that ends the turn.
///
/// `trunkctl speech bench turns` draws what a factor on all of them would change: who waits longer cuts
/// fewer callers off. The model alone tells pauses of read speech from ends no better than seven times in
/// ten, so an expected answer decides most, and where nothing is understood the wait is long.
///
/// The sound's verdict and the words' each take some of it away; what neither knows yet is waited
/// for. `own_pause_ms` is the caller's usual pause within a turn (0 when unknown): one who thinks
/// between words is given time, unless words and sound both say that all is said.
pub fn silence_needed(endpoint: Endpoint, verdict: Verdict, own_pause_ms: u32) -> u32 {
    use Endpoint::{Long, Normal, Short};
    let sound = verdict.complete.map(Sound::of);
    let by_kind = |short, normal, long| match endpoint {
        Short => short,
        Normal => normal,
        Long => long,
    };
    let (needed, certain) = match (sound, verdict.matched) {
        (Some(Sound::Complete), Some(true)) => (by_kind(220, 300, 500), true),
        (Some(Sound::Likely), Some(true)) => (by_kind(260, 420, 600), false),
        (Some(Sound::Complete), None | Some(false)) => (by_kind(380, 420, 700), false),
        (Some(Sound::Likely), None | Some(false)) => (by_kind(480, 530, 850), false),
        (None, Some(true)) => (by_kind(320, 440, 700), false),
        (None, None) => (by_kind(550, 650, 950), false),
        (None, Some(false)) => (by_kind(600, 700, 1_000), false),
        (Some(Sound::Incomplete), Some(true)) => (by_kind(340, 600, 900), false),
        (Some(Sound::Incomplete), None) => (by_kind(750, 900, 1_200), false),
        (Some(Sound::Incomplete), Some(false)) => (by_kind(850, 1_000, 1_400), false),
    };
    if certain { needed } else { needed.max((own_pause_ms + own_pause_ms / 4).min(by_kind(700, 900, 1_400))) }
}

/// The model's probability in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sound {
    Complete,
    Likely,
    Incomplete,
}

impl Sound {
    fn of(probability: f32) -> Self {
        if probability >= 0.7 {
            Self::Complete
        } else if probability >= 0.3 {
            Self::Likely
        } else {
            Self::Incomplete
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(complete: Option<f32>, matched: Option<bool>) -> Verdict {
        Verdict { complete, matched }
    }

    #[test]
    fn the_table_reads_as_intended() {
        let rows = [
            (Some(0.75), Some(true), [220, 300, 500]),
            (Some(0.4), Some(true), [260, 420, 600]),
            (None, Some(true), [320, 440, 700]),
            (Some(0.95), None, [380, 420, 700]),
            (Some(0.1), Some(true), [340, 600, 900]),
            (None, None, [550, 650, 950]),
            (Some(0.1), None, [750, 900, 1_200]),
            (Some(0.1), Some(false), [850, 1_000, 1_400]),
        ];
        for (complete, matched, expected) in rows {
            let got = [Endpoint::Short, Endpoint::Normal, Endpoint::Long]
                .map(|endpoint| silence_needed(endpoint, verdict(complete, matched), 0));
            assert_eq!(got, expected, "{complete:?} {matched:?}");
        }
    }

    #[test]
    fn a_caller_who_thinks_between_words_is_given_time_unless_all_is_said() {
        let slow = 600;
        assert_eq!(silence_needed(Endpoint::Normal, verdict(Some(0.9), None), slow), 750);
        assert_eq!(silence_needed(Endpoint::Normal, verdict(Some(0.9), Some(true)), slow), 300);
        assert_eq!(silence_needed(Endpoint::Normal, verdict(None, None), 5_000), 900);
    }

    proptest::proptest! {
        #[test]
        fn more_reason_to_wait_never_shortens_the_wait(p in 0.0f32..1.0, q in 0.0f32..1.0, own in 0u32..3_000) {
            let (low, high) = if p < q { (p, q) } else { (q, p) };
            for endpoint in [Endpoint::Short, Endpoint::Normal, Endpoint::Long] {
                for matched in [None, Some(true), Some(false)] {
                    let at = |p| silence_needed(endpoint, verdict(Some(p), matched), own);
                    proptest::prop_assert!(at(high) <= at(low));
                    proptest::prop_assert!((200..=1_400).contains(&at(p)));
                }
                let matched = silence_needed(endpoint, verdict(Some(p), Some(true)), own);
                let not = silence_needed(endpoint, verdict(Some(p), Some(false)), own);
                proptest::prop_assert!(matched <= not);
            }
        }
    }
}

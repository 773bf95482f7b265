//! Cuts a text that nobody has rendered into pieces that are made one after the other, each while the one before
//! it plays.
//!
//! A piece ends where a voice stops anyway: at a mark. The first is as short as its marks allow, because all of it
//! has to be made before there is any sound; those behind it are long enough to have a melody, and to outlast the
//! making of the next. A clause without marks that is too long is cut between words, where a speaker could take a
//! breath.

use super::Locale;
use super::text::{Pause, is_han, stops};

/// Words that are made at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The words, with their marks.
    pub text: String,
    /// Silence behind them, in milliseconds, before style and speed.
    pub pause_ms: u32,
}

/// Lengths in characters.
struct Limits {
    /// The shortest first piece: less is slurred.
    first: usize,
    /// The longest first piece that is not cut.
    first_most: usize,
    /// Shorter pieces are joined with the next clause of their sentence.
    enough: usize,
    /// The longest piece.
    most: usize,
}

const MANDARIN: Limits = Limits { first: 2, first_most: 12, enough: 10, most: 26 };
const ENGLISH: Limits = Limits { first: 4, first_most: 40, enough: 32, most: 84 };
/// Silence where a clause was cut between words.
const BREATH_MS: u32 = 60;
/// Before these a Mandarin speaker may take a breath.
const MANDARIN_BREATHS: &str = "但而所如因由并或和与在把被给从对就也都还再请";
/// And before these an English one.
const ENGLISH_BREATHS: [&str; 24] = [
    "and", "but", "or", "because", "so", "which", "that", "if", "when", "while", "to", "for", "with",
    "before", "after", "until", "at", "in", "on", "from", "by", "then", "where", "who",
];

/// Cuts a text. `urgent` says that nothing plays before it, so that its first piece must be short.
pub fn pieces(text: &str, locale: Locale, urgent: bool) -> Vec<Piece> {
    let limits = if locale == Locale::ZhCn { &MANDARIN } else { &ENGLISH };
    let mut joined: Vec<(&str, Pause)> = Vec::new();
    let (mut from, mut open) = (0, 0);
    let ends = stops(text, locale).into_iter().chain([(text.len(), Pause::Long)]);
    for (end, pause) in ends {
        let Some(clause) = text.get(from..end).filter(|clause| clause.chars().any(char::is_alphanumeric))
        else {
            continue;
        };
        let enough = if urgent && joined.len() == 1 { limits.first } else { limits.enough };
        match joined.last_mut() {
            Some((last, before))
                if *before == Pause::Short
                    && length(last) < enough
                    && length(last) + length(clause) <= limits.most =>
            {
                (*last, *before) = (text.get(open..end).unwrap_or(clause), pause);
            }
            _ => {
                open = from;
                joined.push((clause, pause));
            }
        }
        from = end;
    }
    let mut pieces = Vec::new();
    for (clause, pause) in joined {
        let first_most = if urgent && pieces.is_empty() { limits.first_most } else { limits.most };
        let parts = breaths(clause.trim(), locale, first_most, limits.most);
        let last = parts.len().saturating_sub(1);
        for (n, part) in parts.into_iter().enumerate() {
            pieces.push(if n == last {
                Piece { text: part.to_owned(), pause_ms: pause.millis() }
            } else {
                // The mark keeps the voice up: the sentence goes on.
                let mark = if locale == Locale::ZhCn { "，" } else { "," };
                Piece { text: format!("{part}{mark}"), pause_ms: BREATH_MS }
            });
        }
    }
    pieces
}

/// What is spoken, counted in characters.
fn length(text: &str) -> usize {
    text.trim().chars().count()
}

/// Cuts a clause between words into parts of at most `first_most`, then `most` characters.
fn breaths(clause: &str, locale: Locale, first_most: usize, most: usize) -> Vec<&str> {
    let (mut parts, mut rest, mut limit) = (Vec::new(), clause, first_most);
    // A few characters over are not worth a seam.
    while length(rest) > limit + limit / 4 {
        let Some(at) = breath(rest, locale, limit) else { break };
        let (part, after) = rest.split_at(at);
        parts.push(part.trim());
        rest = after.trim_start();
        limit = most;
    }
    parts.push(rest);
    parts
}

/// The byte before which a clause is best cut, after half of `most` characters and up to all of them; anywhere
/// between two words when no good place is there.
fn breath(clause: &str, locale: Locale, most: usize) -> Option<usize> {
    let places: Vec<(usize, char, Option<char>)> = clause
        .char_indices()
        .zip(std::iter::once(None).chain(clause.chars().map(Some)))
        .map(|((at, c), before)| (at, c, before))
        .collect();
    let between = |at: &usize| -> bool {
        let Some((_, c, Some(before))) = places.get(*at).copied() else { return false };
        match locale {
            // Digits, signs and foreign words stay whole.
            Locale::ZhCn => is_han(c) && is_han(before),
            Locale::EnUs | Locale::EnGb => before == ' ',
        }
    };
    let good = |at: &usize| -> bool {
        let Some((byte, c, _)) = places.get(*at).copied() else { return false };
        match locale {
            Locale::ZhCn => MANDARIN_BREATHS.contains(c),
            Locale::EnUs | Locale::EnGb => {
                let word = clause.get(byte..).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
                ENGLISH_BREATHS.contains(&word.to_lowercase().as_str())
            }
        }
    };
    let range = most / 2..=most.min(places.len().saturating_sub(1));
    let best = range.clone().rev().filter(between).find(good);
    let place = best.or_else(|| range.rev().find(between));
    // Nothing to cut at in time: the next place there is.
    let place = place.or_else(|| (most..places.len()).find(between))?;
    places.get(place).map(|(byte, ..)| *byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str, locale: Locale) -> Vec<String> {
        pieces(text, locale, true).into_iter().map(|piece| piece.text).collect()
    }

    #[test]
    fn the_first_piece_is_the_first_clause_and_later_ones_are_longer() {
        assert_eq!(
            texts("好的，我帮您登记为12月3号，下午三点，可以吗？谢谢。", Locale::ZhCn),
            ["好的，", "我帮您登记为12月3号，", "下午三点，可以吗？", "谢谢。"]
        );
        assert_eq!(
            texts("Sure, I can do that for you. Is Dr. Lee, who knows you, all right?", Locale::EnUs),
            ["Sure,", "I can do that for you.", "Is Dr. Lee, who knows you, all right?"]
        );
        let pauses: Vec<u32> =
            pieces("好的，我记下了。谢谢。", Locale::ZhCn, true).iter().map(|piece| piece.pause_ms).collect();
        assert_eq!(pauses, [170, 380, 380]);
        assert_eq!(texts("Oh, I see, thank you very much for telling me.", Locale::EnUs)[0], "Oh, I see,");
        let calm = pieces("好的，我记下了。", Locale::ZhCn, false);
        assert_eq!(calm.len(), 1, "something plays already: {calm:?}");
    }

    #[test]
    fn a_long_clause_is_cut_between_words_and_never_inside_numbers() {
        let long = "我们会在收到您的材料以后由专门的工作人员在5个工作日之内给您回电并告诉您最后的结果";
        let parts = texts(long, Locale::ZhCn);
        assert!(parts.len() >= 2, "{parts:?}");
        assert!(parts.iter().all(|part| part.chars().count() <= 35), "{parts:?}");
        assert!(parts[0].chars().count() <= 16, "{parts:?}");
        let joined: String = parts.concat().replace('，', "");
        assert_eq!(joined, long);
        let long = "We will send a letter to the address that you gave us so that you can look at all of it at \
                    home before you decide what you want to do about the remaining amount";
        let parts = texts(long, Locale::EnUs);
        assert_eq!(parts.concat().replace([',', ' '], ""), long.replace(' ', ""));
        assert!(parts.iter().all(|part| part.len() <= 106) && parts[0].len() <= 51, "{parts:?}");
        assert!(!texts(&"9".repeat(400), Locale::ZhCn).is_empty());
    }

    #[test]
    fn whatever_comes_nothing_that_is_spoken_is_lost() {
        let letters = |text: &str| -> String { text.chars().filter(|c| c.is_alphanumeric()).collect() };
        for text in [
            "",
            "……",
            "，，好，，",
            "a",
            "（好）的",
            "1,234.56元。",
            "“真的吗？！”他说。",
            "A.B.C. (x) - y: z; q",
            "好\n\n的",
            "Total: $1,234.50, due May 5, 2026.",
            "é́—…ü",
        ] {
            for locale in [Locale::ZhCn, Locale::EnUs, Locale::EnGb] {
                let found = pieces(text, locale, true);
                let spoken: String = found.iter().map(|piece| piece.text.as_str()).collect();
                assert_eq!(letters(&spoken), letters(text), "{text}: {found:?}");
                assert!(found.iter().all(|piece| !letters(&piece.text).is_empty()), "{found:?}");
            }
        }
    }
}

//! Was this said at all? Guards against invented text.
//!
//! Whisper was trained on subtitles, so noise, music and silence make it write what stands under
//! films: thanks for watching, subscribe, the name of a translator. No single figure of the engine
//! tells these from speech, so several have a say: the voice activity detector's count, the
//! engine's own no-speech probability together with its confidence, how much text there is for the
//! time, how much of it repeats, and a list of phrases that were seen coming out of noise.
//!
//! Everything here is a plain function of [`Evidence`], so that a wrong verdict in the field can be
//! replayed from the figures in the log.

use std::time::Duration;

use super::text::{bare, spoken_units};

/// Why a text was thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// The sound is too short or too quiet to hold a word; the engine was not asked.
    Silence,
    /// The engine wrote nothing, or nothing but marks and annotations.
    NoText,
    /// The engine itself doubts that anybody spoke, and is unsure of its text.
    NoSpeech,
    /// The voice activity detector heard no speech that could carry the text.
    NotVoiced,
    /// The engine guessed nearly every piece.
    LowConfidence,
    /// The same words over and over.
    Repetition,
    /// More words than a person can say in the time.
    TooMuchText,
    /// A phrase that noise is known to produce.
    KnownInvention,
    /// Written in letters that the language does not have.
    WrongScript,
    /// The engine is sure that a language was spoken that nobody expects here.
    OtherLanguage,
}

impl Rejection {
    /// Returns the name for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Silence => "silence",
            Self::NoText => "no_text",
            Self::NoSpeech => "no_speech",
            Self::NotVoiced => "not_voiced",
            Self::LowConfidence => "low_confidence",
            Self::Repetition => "repetition",
            Self::TooMuchText => "too_much_text",
            Self::KnownInvention => "known_invention",
            Self::WrongScript => "wrong_script",
            Self::OtherLanguage => "other_language",
        }
    }
}

/// Limits of the guards. The defaults were set on real recordings: see the crate's `hear_bench`.
#[derive(Debug, Clone, PartialEq)]
pub struct Guards {
    /// Below this level (dB to full scale) the engine is not asked.
    pub silence_dbfs: f32,
    /// No-speech probability above which `unsure_logprob` decides.
    pub no_speech: f32,
    /// Mean log-probability a text needs when the engine doubts that anybody spoke.
    pub unsure_logprob: f32,
    /// Mean log-probability any text needs.
    pub min_logprob: f32,
    /// The same for a word or three when the detector heard a voice: with nothing around it, even a
    /// clear word is a guess to the engine, and a right one.
    pub min_logprob_short: f32,
    /// Speech the voice activity detector must have found, in all.
    pub min_voiced: Duration,
    /// Compression ratio above which text is a loop.
    pub max_compression: f32,
    /// Syllables or words per second nobody exceeds.
    pub max_units_per_second: f32,
}

impl Default for Guards {
    fn default() -> Self {
        Self {
            silence_dbfs: -65.0,
            no_speech: 0.5,
            unsure_logprob: -0.55,
            min_logprob: -1.1,
            min_logprob_short: -2.4,
            min_voiced: Duration::from_millis(60),
            max_compression: 2.4,
            max_units_per_second: 9.0,
        }
    }
}

/// What is known of one recognition.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The cleaned text.
    pub text: &'a str,
    /// Mean log-probability of its tokens.
    pub avg_logprob: f32,
    /// The engine's no-speech probability.
    pub no_speech_prob: f32,
    /// Length of the sound.
    pub audio: Duration,
    /// Speech found by the voice activity detector, if one listened.
    pub voiced: Option<Duration>,
    /// Whether the text is what [`unloop`] left of a loop.
    pub unlooped: bool,
}

impl Guards {
    /// Gives the first reason to throw the text away, or `None` when it may be believed.
    pub fn judge(&self, evidence: &Evidence<'_>) -> Option<Rejection> {
        let text = bare(evidence.text);
        if text.is_empty() {
            return Some(Rejection::NoText);
        }
        if evidence.voiced.is_some_and(|voiced| voiced < self.min_voiced) {
            return Some(Rejection::NotVoiced);
        }
        if is_subtitle(&text) {
            return Some(Rejection::KnownInvention);
        }
        if has_loop(&text) || compression_ratio(&text) > self.max_compression {
            return Some(Rejection::Repetition);
        }
        if self.is_too_much(&text, evidence) {
            return Some(Rejection::TooMuchText);
        }
        let heard = evidence.voiced.is_some_and(|voiced| voiced >= 2 * self.min_voiced);
        let short = spoken_units(&text) <= 3;
        if evidence.unlooped && !(heard && short && evidence.audio <= SHORT_AUDIO) {
            return Some(Rejection::Repetition);
        }
        let least = if heard && short { self.min_logprob_short } else { self.min_logprob };
        if evidence.avg_logprob < least {
            return Some(Rejection::LowConfidence);
        }
        // A short word leaves the engine in doubt whether it was one; a voice in it outweighs that.
        let (limit, unsure) = if heard && short {
            (HEARD_NO_SPEECH, self.min_logprob)
        } else {
            (self.no_speech, self.unsure_logprob)
        };
        if evidence.no_speech_prob > limit && evidence.avg_logprob < unsure {
            return Some(Rejection::NoSpeech);
        }
        // Doubt weighs more for the phrases that noise likes best, which people also say.
        if is_noise_favourite(&text) {
            let voiced_enough = evidence.voiced.is_none_or(|voiced| voiced >= 2 * self.min_voiced);
            let sure = evidence.avg_logprob > self.unsure_logprob && evidence.no_speech_prob < self.no_speech;
            if !(sure && voiced_enough) {
                return Some(Rejection::KnownInvention);
            }
        }
        None
    }

    fn is_too_much(&self, text: &str, evidence: &Evidence<'_>) -> bool {
        // The detector cuts soft beginnings and ends, so it is given some time on top.
        let room = Duration::from_millis(400);
        let time = evidence.voiced.map_or(evidence.audio, |v| (v * 2 + room).min(evidence.audio + room));
        spoken_units(text) as f32 > 3.0 + self.max_units_per_second * time.as_secs_f32()
    }
}

/// Bytes of the text over the bytes that remain when every stretch that occurred before is replaced
/// by a reference of three bytes (a greedy LZ77, which is what whisper's threshold of 2.4 assumes).
pub fn compression_ratio(text: &str) -> f32 {
    let bytes = text.as_bytes();
    let (mut at, mut cost) = (0, 0usize);
    while at < bytes.len() {
        let mut best = 0;
        for start in 0..at {
            // A match may run on into itself, as "aaaa" does.
            let len = (0..bytes.len() - at).take_while(|k| bytes[start + k] == bytes[at + k]).count();
            best = best.max(len);
        }
        if best >= 4 {
            at += best;
            cost += 3;
        } else {
            at += 1;
            cost += 1;
        }
    }
    // Short texts carry a constant, as every compressed format has one.
    bytes.len() as f32 / (cost + 4) as f32
}

/// Takes the loop out of text that is nothing but one: a word or two, over and over. The decoder
/// falls into it after a single short word, and that word is mostly right. `None` when the text is
/// something else.
pub fn unloop(text: &str) -> Option<String> {
    let text = bare(text);
    let units = units_of(&text);
    (1..=3).filter(|len| units.len() >= 4 * len).find_map(|len| {
        // The last round may be cut short by the limit of tokens, also in the middle of a word.
        let whole = units.len() - units.len() % len - 1;
        let looped = units[..whole].iter().enumerate().all(|(n, unit)| *unit == units[n % len]);
        let joined = |units: &[&str]| {
            let between =
                if units.iter().any(|u| u.chars().any(super::text::is_ideograph)) { "" } else { " " };
            units.join(between)
        };
        looped.then(|| joined(&units[..len]))
    })
}

/// Finds a stretch that is said more often in a row than people do: one syllable or word eight
/// times, a longer phrase four times.
fn has_loop(text: &str) -> bool {
    let units = units_of(text);
    for len in 1..=units.len() / 4 {
        let allowed = if len == 1 { 7 } else { 3 };
        let mut repeats = 1;
        let mut at = len;
        while at + len <= units.len() {
            if units[at - len..at] == units[at..at + len] {
                repeats += 1;
                if repeats > allowed {
                    return true;
                }
                at += len;
            } else {
                repeats = 1;
                // Loops may start anywhere.
                at += 1;
            }
        }
    }
    false
}

/// Splits into ideographs and words.
fn units_of(text: &str) -> Vec<&str> {
    let mut units = Vec::new();
    let mut word: Option<usize> = None;
    for (i, c) in text.char_indices() {
        let single = super::text::is_ideograph(c);
        if single || c == ' ' {
            if let Some(start) = word.take() {
                units.push(&text[start..i]);
            }
            if single {
                units.push(&text[i..i + c.len_utf8()]);
            }
        } else if word.is_none() {
            word = Some(i);
        }
    }
    if let Some(start) = word {
        units.push(&text[start..]);
    }
    units
}

/// Text that stands under films and is not said on telephones. Takes bare text.
fn is_subtitle(text: &str) -> bool {
    SUBTITLES.iter().any(|phrase| text.contains(phrase)) || WHOLE_SUBTITLES.contains(&text)
}

/// Text that noise produces and that people also say.
fn is_noise_favourite(text: &str) -> bool {
    NOISE_FAVOURITES.contains(&text)
}

/// No-speech probability that outweighs a voice that the detector heard.
const HEARD_NO_SPEECH: f32 = 0.8;

/// Sound in which a loop stands for one word; in longer sound it is the engine's own.
const SHORT_AUDIO: Duration = Duration::from_millis(1_600);

/// Anywhere in a text, these give it away.
const SUBTITLES: &[&str] = &[
    "字幕",
    "不吝点赞",
    "打赏支持",
    "明镜与点点",
    "点点栏目",
    "优优独播",
    "独播剧场",
    "订阅我的频道",
    "点赞订阅",
    "订阅转发",
    "感谢观看",
    "谢谢观看",
    "谢谢收看",
    "感谢收看",
    "感谢您的观看",
    "谢谢大家观看",
    "谢谢您的收看",
    "下期再见",
    "下集再见",
    "我们下期",
    "作词作曲",
    "词曲",
    "中文配音",
    "由社群提供",
    "索兰娅",
    "thanks for watching",
    "thank you for watching",
    "thank you so much for watching",
    "like and subscribe",
    "please subscribe",
    "subscribe to my channel",
    "don't forget to subscribe",
    "see you in the next video",
    "see you next time",
    "subtitles by",
    "captions by",
    "transcription by",
    "translated by",
    "amara org",
    "castingwords",
    "esolutions",
    "silent prayer",
];

/// These give it away when they are all there is.
const WHOLE_SUBTITLES: &[&str] = &[
    "谢谢大家",
    "李宗盛",
    "杨茜茜",
    "杨栋梁",
    "完",
    "全剧终",
    "the end",
    "to be continued",
    "blank audio",
    "music",
    "applause",
    "silence",
    "foreign",
    "you're watching",
    "i'll see you later",
    "i'm sorry i'm sorry",
];

const NOISE_FAVOURITES: &[&str] = &[
    "you",
    "bye",
    "bye bye",
    "thank you",
    "thanks",
    "thank you very much",
    "thank you so much",
    "so",
    "oh",
    "ah",
    "uh",
    "hmm",
    "mm",
    "mm hmm",
    "the",
    "and",
    "i",
    "okay",
    "谢谢",
    "拜拜",
    "再见",
    "嗯",
    "啊",
    "哦",
    "呃",
    "哈哈",
    "哈哈哈",
    "好",
    "我",
    "你",
    "他",
    "的",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Evidence<'_> {
        Evidence {
            text,
            avg_logprob: -0.3,
            no_speech_prob: 0.05,
            audio: Duration::from_secs(3),
            voiced: Some(Duration::from_millis(2_000)),
            unlooped: false,
        }
    }

    #[test]
    fn what_people_say_on_the_telephone_passes() {
        let guards = Guards::default();
        for text in [
            "好的，可以。",
            "不是，你打错了",
            "对对对对",
            "谢谢",
            "再见",
            "嗯",
            "明天下午三点",
            "1 3 8 0 0 1 3 8 0 0 0",
            "Yes, speaking.",
            "No no no no no",
            "Thank you.",
            "Bye bye.",
            "I'd like to pay on Friday.",
            "okay",
            "我想转人工，我想转人工",
        ] {
            assert_eq!(guards.judge(&said(text)), None, "{text}");
        }
    }

    #[test]
    fn what_stands_under_films_does_not() {
        let guards = Guards::default();
        for text in [
            "请不吝点赞 订阅 转发 打赏支持明镜与点点栏目",
            "字幕志愿者 杨茜茜",
            "中文字幕 李宗盛",
            "感谢观看,下期再见",
            "Thanks for watching!",
            "Subtitles by the Amara.org community",
            "Please like and subscribe.",
            "谢谢大家",
        ] {
            assert_eq!(guards.judge(&said(text)), Some(Rejection::KnownInvention), "{text}");
        }
    }

    #[test]
    fn a_favourite_of_noise_is_believed_only_when_the_engine_is_sure_and_a_voice_was_heard() {
        let guards = Guards::default();
        let unsure = Evidence { avg_logprob: -0.9, ..said("Thank you.") };
        assert_eq!(guards.judge(&unsure), Some(Rejection::KnownInvention));
        let doubtful = Evidence { no_speech_prob: 0.8, avg_logprob: -0.4, ..said("you") };
        assert_eq!(guards.judge(&doubtful), Some(Rejection::KnownInvention));
        let click = Evidence { voiced: Some(Duration::from_millis(80)), ..said("bye") };
        assert_eq!(guards.judge(&click), Some(Rejection::KnownInvention));
    }

    #[test]
    fn each_figure_can_reject_alone() {
        let guards = Guards::default();
        let plain = said("我明天还");
        let table = [
            (Evidence { text: "。", ..plain }, Rejection::NoText),
            (Evidence { voiced: Some(Duration::from_millis(40)), ..plain }, Rejection::NotVoiced),
            (Evidence { avg_logprob: -1.4, ..plain }, Rejection::LowConfidence),
            (Evidence { text: "six", avg_logprob: -2.6, ..plain }, Rejection::LowConfidence),
            (Evidence { text: "six", avg_logprob: -1.6, voiced: None, ..plain }, Rejection::LowConfidence),
            (Evidence { no_speech_prob: 0.9, avg_logprob: -0.8, ..plain }, Rejection::NoSpeech),
            (Evidence { text: "对对对对对对对对对", ..plain }, Rejection::Repetition),
            (Evidence { text: "go on go on go on go on go on", ..plain }, Rejection::Repetition),
            (
                Evidence {
                    text: "今天天气很好我们一起去公园散步然后吃饭看电影再回家",
                    audio: Duration::from_millis(600),
                    voiced: Some(Duration::from_millis(300)),
                    ..plain
                },
                Rejection::TooMuchText,
            ),
        ];
        for (evidence, reason) in table {
            assert_eq!(guards.judge(&evidence), Some(reason), "{evidence:?}");
        }
    }

    #[test]
    fn one_short_word_may_be_a_guess_and_may_have_been_a_loop_when_a_voice_was_heard() {
        let guards = Guards::default();
        let guess = Evidence { avg_logprob: -1.8, ..said("six") };
        assert_eq!(guards.judge(&guess), None);
        let looped = Evidence { unlooped: true, audio: Duration::from_millis(900), ..said("four") };
        assert_eq!(guards.judge(&looped), None);
        for evidence in [
            Evidence { audio: Duration::from_secs(4), ..looped },
            Evidence { voiced: None, ..looped },
            Evidence { text: "i'm going to go to the other side", ..looped },
        ] {
            assert_eq!(guards.judge(&evidence), Some(Rejection::Repetition), "{evidence:?}");
        }
    }

    #[test]
    fn a_loop_gives_its_word_and_plain_text_is_left_alone() {
        for (text, word) in [
            ("6 6 6 6 6 6", "6"),
            ("one, one, one, one, on", "one"),
            ("对对对对对对对对对对", "对"),
            ("point 1, point 1, point 1, point 1, point", "point 1"),
            ("可以可以可以可以可", "可以"),
        ] {
            assert_eq!(unloop(text).as_deref(), Some(word), "{text}");
        }
        for text in ["", "yes", "no no no", "one two three four five", "对对对", "我想转人工"] {
            assert_eq!(unloop(text), None, "{text}");
        }
    }

    #[test]
    fn a_sure_text_survives_the_engine_s_doubt() {
        let evidence = Evidence { no_speech_prob: 0.9, avg_logprob: -0.2, ..said("请帮我转人工") };
        assert_eq!(Guards::default().judge(&evidence), None);
    }

    #[test]
    fn plain_sentences_hardly_compress_and_loops_do() {
        assert!(
            compression_ratio("i would like to pay the whole amount on friday morning if that is possible")
                < 1.3
        );
        assert!(compression_ratio(&"so we are going to ".repeat(8)) > 4.0);
        assert_eq!(compression_ratio(""), 0.0);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_the_guards(text in ".{0,80}", p in -3.0f32..0.0, n in 0.0f32..1.0) {
            let evidence = Evidence { avg_logprob: p, no_speech_prob: n, ..said(&text) };
            let _ = Guards::default().judge(&evidence);
            let _ = unloop(&text);
        }
    }
}

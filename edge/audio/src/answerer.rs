//! Who or what answered a call: a person, a machine, a fax, or nobody who says anything.
//!
//! A person says something short and waits; a machine talks on, and beeps. The rules are those of the open-source
//! exchanges (how long until the first sound, how long the greeting, how long the silence behind it) with one
//! difference: a long greeting alone must be very long before it makes a machine of a person, while a beep, or the
//! words of an announcement, prove it at any time. So a first verdict comes early and a later one may correct it.
//!
//! Words come from a recogniser and are handed in; without one, sound alone decides. They also tell machines apart: a
//! voicemail takes a message, a menu wants keys, and an assistant that screens calls wants to know why one calls.

use std::fmt;

use crate::FRAME;
use crate::announcement::{Announcement, announcement_after_answer, bare, found};
use crate::tone::Goertzel;

/// Who answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answerer {
    /// A person.
    Human,
    /// A machine, of which kind is not known, or an announcement of the network.
    Machine,
    /// A machine that takes a message.
    Voicemail,
    /// A menu that is worked by keys or words (interactive voice response).
    Menu,
    /// An assistant that asks who calls and why before it puts anybody through.
    Screener,
    /// A fax machine or a modem.
    Fax,
    /// Nobody said anything so far.
    Silence,
}

impl Answerer {
    /// Returns the word that stands in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Machine => "machine",
            Self::Voicemail => "voicemail",
            Self::Menu => "menu",
            Self::Screener => "screener",
            Self::Fax => "fax",
            Self::Silence => "silence",
        }
    }

    /// Says whether it is neither a person nor nobody.
    #[must_use]
    pub fn is_machine(self) -> bool {
        match self {
            Self::Machine | Self::Voicemail | Self::Menu | Self::Screener | Self::Fax => true,
            Self::Human | Self::Silence => false,
        }
    }
}

/// Who answered, and what says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswererVerdict {
    /// Who.
    pub who: Answerer,
    /// Milliseconds from the answer to the verdict.
    pub at_ms: u64,
    /// What it rests on, for people.
    pub evidence: String,
    /// A beep has just ended a greeting: what is said now is recorded.
    pub beep: bool,
}

/// Time limits, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswererRules {
    /// Without a sound for so long, nobody is there.
    pub initial_silence_ms: u32,
    /// Silence after which a greeting is over.
    pub after_greeting_ms: u32,
    /// A greeting that goes on for so long is a machine's.
    pub greeting_ms: u32,
    /// Shorter sounds are no words.
    pub word_ms: u32,
    /// A pure tone of so long is a beep.
    pub beep_ms: u32,
}

impl Default for AnswererRules {
    /// 4 s, 600 ms, 3.5 s, 100 ms, 180 ms.
    fn default() -> Self {
        Self {
            initial_silence_ms: 4_000,
            after_greeting_ms: 600,
            greeting_ms: 3_500,
            word_ms: 100,
            beep_ms: 180,
        }
    }
}

/// Listens from the moment of the answer on, 20 ms after 20 ms.
pub struct AnswererDetector {
    rules: AnswererRules,
    frames: u64,
    floor_db: f32,
    /// Milliseconds of sound and of silence in a row.
    sound_ms: u32,
    quiet_ms: u32,
    /// When the first word of the greeting that is being said began.
    greeting_from: Option<u64>,
    beep: Beep,
    verdict: Option<Answerer>,
}

const FRAME_MS: u64 = 20;
/// Below this nothing is said, on however quiet a line, in dBFS.
const QUIETEST_DB: f32 = -45.0;
/// How far speech stands above the line's own noise.
const OVER_NOISE_DB: f32 = 9.0;

/// Words prove a machine so soon after the answer; later they are part of a conversation.
const WORDS_WITHIN_MS: u64 = 25_000;

/// What only machines say, by kind, as [`bare`] leaves it. Whoever offers to take a message is asked for nothing else.
const SAID_BY: &[(Answerer, &[&str])] = &[
    (
        Answerer::Screener,
        &[
            "stateyourname",
            "sayyourname",
            "recordyourname",
            "yournameandwhy",
            "yournameandreason",
            "reasonforyourcall",
            "reasonforcalling",
            "whyyou'recalling",
            "whyyouarecalling",
            "callscreening",
            "screeningservice",
            "beforeitrytoconnect",
            "seeifthispersonisavailable",
            "virtualassistant",
            "智能助理",
            "智能助手",
            "智能秘书",
            "电话助理",
            "电话秘书",
            "来电助理",
            "来电秘书",
            "语音助手",
            "机主",
            "说明来意",
            "您的来意",
            "来电意图",
            "代为转达",
            "帮您转达",
            "为您转达",
        ],
    ),
    (
        Answerer::Voicemail,
        &[
            "请留言",
            "请您留言",
            "录音留言",
            "嘀声后",
            "滴声后",
            "提示音后",
            "哔声后",
            "留下您的姓名",
            "leaveamessage",
            "leaveyourmessage",
            "leavemeamessage",
            "leaveusamessage",
            "leaveyourname",
            "recordyourmessage",
            "afterthetone",
            "afterthebeep",
            "atthetone",
            "atthebeep",
            "i'llcallyouback",
            "getbacktoyou",
            "can'ttakeyourcall",
            "cannottakeyourcall",
            "can'tcometothephone",
            "notavailabletotakeyourcall",
            "reachedthevoice",
        ],
    ),
    (
        Answerer::Menu,
        &[
            "请按",
            "直拨分机号",
            "拨分机号",
            "查号请",
            "人工服务请",
            "欢迎致电",
            "欢迎拨打",
            "感谢致电",
            "pressone",
            "presstwo",
            "presszero",
            "pressthe",
            "pressorsay",
            "dialbyname",
            "enterthe",
            "enteryour",
            "mainmenu",
            "menuoptions",
            "followingoptions",
            "yourcallisimportant",
            "willbeansweredin",
            "nextavailable",
            "maybemonitored",
            "mayberecorded",
            "presspound",
            "pressstar",
            "extensionnumber",
            "validextension",
            "optionisinvalid",
            "noinputreceived",
            "thankyouforcalling",
            "agentsarebusy",
            "agentisnotavailable",
            "agenthasconnected",
            "workinghours",
            "tryagainlater",
            "工作时间",
            "稍后再试",
            "稍后再拨",
            "坐席",
        ],
    ),
    (Answerer::Voicemail, &["voicemail", "语音信箱", "语音邮箱", "留言信箱"]),
];

/// Finds the kind of machine that says this.
fn said_by(text: &str) -> Option<(Answerer, String)> {
    let bare = bare(text);
    let by_words = |(who, parts): &(Answerer, &[&'static str])| {
        Some((*who, format!("the words `{}`", found(&bare, parts)?)))
    };
    let by_key = || names_a_key(&bare).then(|| (Answerer::Menu, "a key is named".to_owned()));
    // A menu may offer its voicemail; who wants a message may offer a key as well.
    let (strong, weak) = SAID_BY.split_at(SAID_BY.len() - 1);
    strong.iter().find_map(by_words).or_else(by_key).or_else(|| weak.iter().find_map(by_words))
}

/// Says whether the text asks for a key by its figure.
fn names_a_key(bare: &str) -> bool {
    ["press", "dial", "按"].into_iter().any(|verb| {
        bare.match_indices(verb).any(|(at, _)| {
            bare[at + verb.len()..]
                .starts_with(|next: char| next.is_ascii_digit() || "一二三四五六七八九零".contains(next))
        })
    })
}

impl AnswererDetector {
    /// Begins at the answer.
    #[must_use]
    pub fn new(rules: AnswererRules) -> Self {
        Self {
            rules,
            frames: 0,
            floor_db: -60.0,
            sound_ms: 0,
            quiet_ms: 0,
            greeting_from: None,
            beep: Beep::new(rules.beep_ms),
            verdict: None,
        }
    }

    /// Takes the next 20 ms of the far end; returns a verdict when there is one, or when it changes.
    pub fn push(&mut self, frame: &[i16; FRAME]) -> Option<AnswererVerdict> {
        self.frames += 1;
        let power = frame.iter().map(|s| f32::from(*s).powi(2)).sum::<f32>() / FRAME as f32;
        if let Some(hz) = self.beep.push(frame, power) {
            // Tones below 700 Hz are the network's: ringback and busy are no voicemail.
            if matches!(hz, 1_100 | 2_100) {
                return self.settle(Answerer::Fax, format!("a tone of {hz} Hz"));
            } else if hz >= 700 && self.verdict != Some(Answerer::Fax) {
                self.verdict = Some(Answerer::Voicemail);
                let evidence = format!("a beep of {hz} Hz");
                return Some(AnswererVerdict {
                    who: Answerer::Voicemail,
                    at_ms: self.at_ms(),
                    evidence,
                    beep: true,
                });
            }
        }
        let db = 10.0 * (power / (32_768.0 * 32_768.0)).max(1e-9).log10();
        let sounds = db > (self.floor_db + OVER_NOISE_DB).max(QUIETEST_DB);
        self.follow_floor(db);
        if sounds {
            self.sound_ms += FRAME_MS as u32;
            if self.sound_ms >= self.rules.word_ms {
                self.quiet_ms = 0;
                let begun = self.at_ms() - u64::from(self.sound_ms);
                self.greeting_from.get_or_insert(begun);
            }
        } else {
            self.quiet_ms += FRAME_MS as u32;
            self.sound_ms = 0;
        }
        self.by_timing()
    }

    /// Takes in what was recognised of the far end's words.
    pub fn handle_words(&mut self, text: &str) -> Option<AnswererVerdict> {
        if self.at_ms() > WORDS_WITHIN_MS {
            return None;
        }
        if let Some((what, part)) = announcement_after_answer(text) {
            let what = what.map_or("an announcement", Announcement::as_str);
            return self.settle(Answerer::Machine, format!("the words `{part}`: {what}"));
        }
        let (who, evidence) = said_by(text)?;
        self.settle(who, evidence)
    }

    /// Returns the verdict so far.
    #[must_use]
    pub fn verdict(&self) -> Option<Answerer> {
        self.verdict
    }

    fn by_timing(&mut self) -> Option<AnswererVerdict> {
        let Some(from) = self.greeting_from else {
            let at_ms = self.at_ms();
            if self.verdict.is_some() || at_ms < u64::from(self.rules.initial_silence_ms) {
                return None;
            }
            return self.settle(Answerer::Silence, format!("{at_ms} ms without a sound"));
        };
        let spoken = self.at_ms().saturating_sub(from).saturating_sub(u64::from(self.quiet_ms));
        if self.quiet_ms >= self.rules.after_greeting_ms {
            self.greeting_from = None;
            // A machine that pauses is still a machine; whoever speaks late after all is there.
            return match self.verdict {
                None | Some(Answerer::Silence) => {
                    let quiet = self.quiet_ms;
                    self.settle(
                        Answerer::Human,
                        format!("{spoken} ms of greeting, then {quiet} ms of silence"),
                    )
                }
                Some(_) => None,
            };
        }
        // Later on, people talk as long as they like.
        let first = matches!(self.verdict, None | Some(Answerer::Silence));
        if first && spoken >= u64::from(self.rules.greeting_ms) {
            return self.settle(Answerer::Machine, format!("{spoken} ms of greeting without a pause"));
        }
        None
    }

    fn settle(&mut self, who: Answerer, evidence: String) -> Option<AnswererVerdict> {
        let is_known = self.verdict.is_some_and(|before| {
            before == who || before == Answerer::Fax || (who == Answerer::Machine && before.is_machine())
        });
        if is_known {
            return None;
        }
        self.verdict = Some(who);
        Some(AnswererVerdict { who, at_ms: self.at_ms(), evidence, beep: false })
    }

    /// Follows the line's noise: down at once, up slowly, so that speech does not count as noise.
    fn follow_floor(&mut self, db: f32) {
        let step = if db < self.floor_db { 0.3 } else { 0.004 };
        self.floor_db = (self.floor_db + (db - self.floor_db) * step).clamp(-75.0, -30.0);
    }

    fn at_ms(&self) -> u64 {
        self.frames * FRAME_MS
    }
}

impl fmt::Debug for AnswererDetector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswererDetector")
            .field("frames", &self.frames)
            .field("verdict", &self.verdict)
            .finish()
    }
}

/// A pure tone that lasts.
struct Beep {
    wanted_ms: u32,
    bins: Vec<Goertzel>,
    /// The bin that has sounded, and for how long.
    at: usize,
    ms: u32,
    told: bool,
}

/// Filters from 400 to 2,300 Hz, 50 Hz apart.
const FIRST_HZ: usize = 400;
const STEP_HZ: usize = 50;
const BINS: usize = 39;
/// A tone holds this share of a frame's energy.
const PURE: f32 = 0.85;
/// About -40 dBFS, as mean square.
const QUIETEST_BEEP: f32 = 330.0 * 330.0;

impl Beep {
    fn new(wanted_ms: u32) -> Self {
        let bin = |n| Goertzel::new((FIRST_HZ + n * STEP_HZ) as f32, 8_000);
        Self { wanted_ms, bins: (0..BINS).map(bin).collect(), at: 0, ms: 0, told: false }
    }

    /// Takes a frame in and returns the pitch, to 50 Hz, of a tone that has lasted long enough; once.
    fn push(&mut self, frame: &[i16], power: f32) -> Option<u32> {
        let found = if power < QUIETEST_BEEP { None } else { self.strongest(frame, power) };
        match found {
            Some(at) if self.ms > 0 && at.abs_diff(self.at) <= 1 => self.ms += FRAME_MS as u32,
            Some(at) => (self.at, self.ms, self.told) = (at, FRAME_MS as u32, false),
            None => (self.ms, self.told) = (0, false),
        }
        // 2,100 Hz lasts seconds when a fax answers; a beep of that pitch is over sooner.
        let hz = FIRST_HZ + self.at * STEP_HZ;
        let hz = match hz {
            1_050..=1_150 => 1_100,
            2_050..=2_150 => 2_100,
            other => other,
        };
        let wanted = if matches!(hz, 1_100 | 2_100) { 440 } else { self.wanted_ms };
        if self.told || self.ms < wanted {
            return None;
        }
        self.told = true;
        u32::try_from(hz).ok()
    }

    fn strongest(&self, frame: &[i16], power: f32) -> Option<usize> {
        let powers: Vec<f32> = self.bins.iter().map(|bin| bin.power(frame)).collect();
        let at = (0..BINS).max_by(|a, b| powers[*a].total_cmp(&powers[*b]))?;
        let around = at.saturating_sub(1)..=(at + 1).min(BINS - 1);
        (powers[around].iter().sum::<f32>() >= PURE * power).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::white_noise;
    use crate::tone::{Country, Signal, ToneGenerator, busy, dtmf_samples, ringback};

    /// What sounds like speech to a meter: noise, syllable by syllable.
    fn speech(ms: usize) -> Vec<i16> {
        let mut sound = white_noise(ms * 8, -22.0, 7);
        for (at, sample) in sound.iter_mut().enumerate() {
            if at / 8 % 250 > 200 {
                *sample /= 100;
            }
        }
        sound
    }

    fn silence(ms: usize) -> Vec<i16> {
        white_noise(ms * 8, -65.0, 8)
    }

    fn tone(hz: f32, ms: usize) -> Vec<i16> {
        let signal = Signal { frequencies: [hz, 0.0], modulation: 0.0, cadence: [0; 4], dbfs: -18.0 };
        let mut sound = vec![0; ms * 8];
        ToneGenerator::new(8_000, signal).fill(&mut sound);
        sound
    }

    fn verdicts(parts: &[Vec<i16>]) -> Vec<AnswererVerdict> {
        let mut detector = AnswererDetector::new(AnswererRules::default());
        let sound = parts.concat();
        let frames = sound.chunks_exact(FRAME).map(|frame| <&[i16; FRAME]>::try_from(frame).unwrap());
        frames.filter_map(|frame| detector.push(frame)).collect()
    }

    fn who(parts: &[Vec<i16>]) -> Vec<Answerer> {
        verdicts(parts).into_iter().map(|verdict| verdict.who).collect()
    }

    #[test]
    fn a_short_greeting_and_a_pause_are_a_person_within_a_second_and_a_half() {
        for (before, greeting) in [(200, 300), (500, 800), (1_500, 600)] {
            let found = verdicts(&[silence(before), speech(greeting), silence(2_000)]);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].who, Answerer::Human);
            let after_first_word = found[0].at_ms - before as u64;
            assert!(after_first_word <= 1_500, "{after_first_word} ms after the first word");
            assert!(found[0].evidence.contains("silence"), "{found:?}");
        }
    }

    #[test]
    fn a_greeting_that_does_not_end_is_a_machine_within_four_seconds() {
        let found = verdicts(&[silence(400), speech(9_000)]);
        assert_eq!(found[0].who, Answerer::Machine);
        assert!(found[0].at_ms - 400 <= 4_000, "{found:?}");
    }

    #[test]
    fn a_beep_makes_a_machine_even_of_what_seemed_a_person() {
        for hz in [850.0, 1_000.0, 1_400.0, 2_000.0] {
            let parts = [silence(300), speech(1_200), silence(900), speech(800), tone(hz, 260), silence(500)];
            let found = verdicts(&parts);
            let [first, last] = &found[..] else { panic!("{found:?}") };
            assert_eq!((first.who, last.who), (Answerer::Human, Answerer::Voicemail), "{hz} Hz");
            assert!(last.beep && !first.beep);
        }
    }

    #[test]
    fn a_fax_is_a_fax() {
        assert_eq!(who(&[silence(600), tone(2_100.0, 3_000)])[0], Answerer::Fax);
        assert_eq!(who(&[silence(600), tone(1_100.0, 500), silence(3_000)])[0], Answerer::Fax);
    }

    #[test]
    fn nobody_is_told_as_silence_and_who_speaks_late_is_there() {
        let parts = [silence(5_000), speech(400), silence(1_000)];
        assert_eq!(who(&parts), [Answerer::Silence, Answerer::Human]);
    }

    #[test]
    fn what_only_machines_say_tells_which_machine_it_is() {
        for (text, who) in [
            ("您拨打的用户暂时无法接通，请稍后再拨", Answerer::Machine),
            ("您好，我现在不方便接电话，请在嘀声后留言", Answerer::Voicemail),
            ("Please Leave a Message after the tone", Answerer::Voicemail),
            ("欢迎致电某某银行，个人业务请按1", Answerer::Menu),
            ("For sales, press 1. For support, press 2.", Answerer::Menu),
            ("Dial 2 to send this caller to voicemail.", Answerer::Menu),
            ("At the tone, record your message, or press 1 for more.", Answerer::Voicemail),
            ("您不打的电话与关系", Answerer::Machine),
            ("您好，我是机主的智能助理，请问您找他有什么事", Answerer::Screener),
            ("Please state your name and why you're calling.", Answerer::Screener),
        ] {
            let mut detector = AnswererDetector::new(AnswererRules::default());
            assert_eq!(detector.handle_words("喂，你好"), None);
            assert_eq!(detector.handle_words(text).map(|verdict| verdict.who), Some(who), "{text}");
            assert_eq!(detector.handle_words(text), None, "that is known already");
        }
    }

    #[test]
    fn the_kind_of_a_machine_is_found_out_later_and_not_forgotten() {
        let mut detector = AnswererDetector::new(AnswererRules::default());
        let sound = [silence(400), speech(4_000)].concat();
        let frames = |sound: &[i16]| -> Vec<[i16; FRAME]> {
            sound.chunks_exact(FRAME).map(|frame| frame.try_into().unwrap()).collect()
        };
        let found: Vec<_> = frames(&sound).iter().filter_map(|frame| detector.push(frame)).collect();
        assert_eq!(found[0].who, Answerer::Machine);
        assert_eq!(detector.handle_words("press one").unwrap().who, Answerer::Menu);
        let more = [silence(700), speech(9_000)].concat();
        assert!(frames(&more).iter().all(|frame| detector.push(frame).is_none()));
        assert_eq!(detector.handle_words("您拨打的电话已关机"), None, "no less is known than before");
        // After half a minute, people talk about such things.
        let mut late = AnswererDetector::new(AnswererRules::default());
        frames(&silence(26_000)).iter().for_each(|frame| drop(late.push(frame)));
        assert_eq!(late.handle_words("he asked me to leave a message"), None);
    }

    #[test]
    fn neither_keys_nor_the_networks_tones_are_a_beep() {
        let network = |signal| {
            let mut sound = vec![0; 80_000];
            ToneGenerator::new(8_000, signal).fill(&mut sound);
            sound
        };
        for sound in
            [dtmf_samples("159", 8_000, 400, 400), network(busy(Country::Cn)), network(ringback(Country::Cn))]
        {
            let found = verdicts(&[silence(200), sound]);
            assert!(!found.iter().any(|verdict| verdict.evidence.contains("beep")), "{found:?}");
        }
    }
}

//! Who the customer is: a YAML file, checked while it loads. The crate doc describes its keys.

mod pattern;
mod scalar;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;
use trunkline_audio::Codec;
use trunkline_speech::synth::{Locale, Style};

pub use self::pattern::{Heard, Pattern};
pub use self::scalar::{Between, Part, Say, Span, Utterance};

/// Voices that robots use by default: a customer in the same voice could not be told apart.
const ROBOT_VOICES: [&str; 3] = ["zf_xiaoxiao", "af_heart", "bf_emma"];
const MAX_BYTES: u64 = 256 * 1024;

/// Why a persona cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PersonaError {
    /// The file could not be read.
    #[error("could not read persona {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file says something that is not possible.
    #[error("{path}:{line}:{column}: {message}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
        /// What is wrong and what to do.
        message: String,
    },
}

/// A customer, ready to be cast.
#[derive(Clone, Debug)]
pub struct Persona {
    /// Her name, for the log.
    pub name: String,
    /// What she speaks.
    pub locale: Locale,
    /// How she sounds.
    pub voice: Voice,
    /// What happens when she is called.
    pub pick_up: PickUp,
    /// How long it rings.
    pub answer_after: Between,
    /// What she can talk.
    pub codecs: Vec<Codec>,
    /// The password that callers need.
    pub auth: Option<Auth>,
    /// How she holds a conversation.
    pub talk: Talk,
    /// Everything she may say; the rest of the persona refers to it by place.
    pub utterances: Vec<Utterance>,
}

/// The sound of a customer and of her line.
#[derive(Clone, Debug)]
pub struct Voice {
    /// The synthesiser's name of the voice.
    pub name: String,
    /// Pace.
    pub style: Style,
    /// Factor on the pace.
    pub speed: f32,
    /// Level of her speech in dBFS.
    pub level_dbfs: f32,
    /// What else is on her line.
    pub noise: Option<Noise>,
}

/// The noise on a customer's line.
#[derive(Clone, Debug, PartialEq)]
pub struct Noise {
    /// What it is.
    pub source: NoiseSource,
    /// How far her speech stands above it, in dB.
    pub snr_db: f32,
}

/// Where noise comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoiseSource {
    /// A sound file, played over and over.
    File(PathBuf),
    /// Equal power at all frequencies.
    White,
    /// Power that falls with frequency, as in a street.
    Pink,
    /// Four people talking at once, by our own synthesiser.
    Babble,
}

/// What becomes of a call to her.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PickUp {
    /// She answers.
    Answers,
    /// She answers and hangs up at once.
    HangsUp,
    /// Her line is busy: 486.
    Busy,
    /// The call is turned away with this status.
    Rejects(u16),
    /// It rings and nobody comes.
    Never,
}

/// A password that the line asks callers for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// The realm of the challenge.
    pub realm: String,
    /// Who may call.
    pub user: String,
    /// Her password.
    pub password: String,
}

/// How a conversation goes.
#[derive(Clone, Debug)]
pub struct Talk {
    /// What she says on picking up, unless the robot speaks first.
    pub greeting: Ways,
    /// Silence after which she takes it that the robot has finished.
    pub patience: Span,
    /// How long she thinks before she answers.
    pub thinking: Between,
    /// What she answers to what; the first rule that matches counts.
    pub rules: Vec<Rule>,
    /// What she says when none does.
    pub otherwise: Option<Reply>,
    /// Where she speaks over the robot.
    pub interrupt: Option<Interrupt>,
    /// She hangs up when the robot has finished this turn.
    pub hang_up_after_turn: Option<u32>,
    /// She hangs up so long after picking up.
    pub hang_up_after: Span,
    /// She picks up and says nothing.
    pub silent: bool,
    /// She is a voicemail: her greeting is spoken whatever the robot says, ends with a beep of this pitch in Hz, and
    /// nothing follows.
    pub beep_hz: Option<u16>,
}

impl Talk {
    /// Tells whether she has to understand what is said to her.
    pub fn needs_ears(&self) -> bool {
        !self.silent
            && self.beep_hz.is_none()
            && self.rules.iter().any(|rule| matches!(rule.hear, Hear::OneOf(_)))
    }
}

/// Ways of saying the same, by their place in [`Persona::utterances`]; none: she says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways(pub Vec<usize>);

/// One answer and when it is given.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What must be heard.
    pub hear: Hear,
    /// What follows.
    pub reply: Reply,
    /// Whether it is given once in a call.
    pub once: bool,
}

/// What a rule listens for.
#[derive(Clone, Debug)]
pub enum Hear {
    /// Whatever was said.
    Any,
    /// One of these.
    OneOf(Vec<Pattern>),
}

/// What she does when it is her turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What she says.
    pub say: Ways,
    /// And then.
    pub then: Then,
    /// How long she thinks before it, when it differs from usual.
    pub thinking: Option<Between>,
}

/// What she does when she has spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// She listens.
    #[default]
    Wait,
    /// She hangs up.
    #[serde(rename = "hangup")]
    HangUp,
}

/// Speaking over the robot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// So long after the robot began its turn.
    pub after: Span,
    /// In this turn of the robot, counted from 1.
    pub on_turn: u32,
    /// What she says.
    pub say: Ways,
}

impl Persona {
    /// Reads a file.
    ///
    /// # Errors
    /// That it cannot be read, or where it is wrong.
    pub fn load(path: &Path) -> Result<Self, PersonaError> {
        let read = |source| PersonaError::Read { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(read)?.len() > MAX_BYTES {
            return Err(read(io::Error::other(format!("it is larger than {MAX_BYTES} bytes"))));
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        Self::parse(&text, path)
    }

    /// Reads a text; `path` is for errors, and noise files are looked for beside it.
    ///
    /// # Errors
    /// Where it is wrong.
    pub fn parse(text: &str, path: &Path) -> Result<Self, PersonaError> {
        let wrong =
            |(line, column), message| PersonaError::Wrong { path: path.to_owned(), line, column, message };
        let options = serde_saphyr::options! { strict_booleans: true };
        let file: File = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let place = error.location().map_or((1, 1), |at| (at.line(), at.column()));
            wrong(place, message(&error))
        })?;
        file.check(path.parent().unwrap_or(Path::new("."))).map_err(|(place, message)| wrong(place, message))
    }
}

/// Returns the parser's message without the place and the excerpt, which are printed in our form.
fn message(error: &serde_saphyr::Error) -> String {
    let whole = error.without_snippet().to_string();
    let first = whole.lines().next().unwrap_or_default();
    let end = first.find(" at line ").or_else(|| first.find(", line ")).unwrap_or(first.len());
    first[..end].trim().to_owned()
}

type Place = (u64, u64);

fn place<T>(spanned: &Spanned<T>) -> Place {
    (spanned.referenced.line(), spanned.referenced.column())
}

#[derive(Deserialize)]
enum Schema {
    #[serde(rename = "trunkline/persona/1")]
    V1,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[expect(dead_code, reason = "reading it is the check")]
    schema: Schema,
    name: String,
    locale: Spanned<String>,
    #[serde(default)]
    voice: Option<Spanned<String>>,
    #[serde(default)]
    style: Option<Spanned<String>>,
    #[serde(default)]
    speed: Option<Spanned<f32>>,
    #[serde(default)]
    level_dbfs: Option<Spanned<f32>>,
    #[serde(default)]
    noise: Option<Spanned<NoiseFile>>,
    #[serde(default)]
    answer_after: Option<Between>,
    #[serde(default)]
    greeting: Option<Say>,
    #[serde(default)]
    patience: Option<Spanned<Span>>,
    #[serde(default)]
    thinking: Option<Between>,
    #[serde(default)]
    rules: Vec<RuleFile>,
    #[serde(default)]
    otherwise: Option<ReplyFile>,
    #[serde(default)]
    interrupt: Option<InterruptFile>,
    #[serde(default)]
    hangup_after: Option<Spanned<HangUpFile>>,
    #[serde(default)]
    silent: bool,
    #[serde(default)]
    beep: Option<Spanned<u16>>,
    #[serde(default)]
    busy: Option<Spanned<bool>>,
    #[serde(default)]
    reject: Option<Spanned<u16>>,
    #[serde(default)]
    no_answer: Option<Spanned<bool>>,
    #[serde(default)]
    hang_up_at_once: Option<Spanned<bool>>,
    #[serde(default)]
    codecs: Option<Spanned<Vec<CodecFile>>>,
    #[serde(default)]
    auth: Option<Auth>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoiseFile {
    #[serde(default)]
    file: Option<PathBuf>,
    #[serde(default)]
    kind: Option<NoiseKind>,
    snr_db: f32,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum NoiseKind {
    White,
    Pink,
    #[serde(alias = "babble-from-own-synth")]
    Babble,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    hear: HearFile,
    #[serde(default)]
    say: Option<Say>,
    #[serde(default)]
    then: Then,
    #[serde(default)]
    once: bool,
    #[serde(default)]
    thinking: Option<Between>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplyFile {
    #[serde(default)]
    say: Option<Say>,
    #[serde(default)]
    then: Then,
    #[serde(default)]
    thinking: Option<Between>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InterruptFile {
    after: Span,
    on_turn: u32,
    say: Say,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HangUpFile {
    #[serde(default)]
    turns: Option<u32>,
    #[serde(default)]
    seconds: Option<f32>,
}

#[derive(Clone, Copy, Deserialize)]
enum CodecFile {
    #[serde(rename = "PCMA")]
    Pcma,
    #[serde(rename = "PCMU")]
    Pcmu,
}

struct HearFile(Hear);

impl<'de> Deserialize<'de> for HearFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = HearFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`any`, a keyword, `/a regular expression/`, or a list of these")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HearFile, E> {
                if text == "any" {
                    return Ok(HearFile(Hear::Any));
                }
                Ok(HearFile(Hear::OneOf(vec![Pattern::parse(text).map_err(E::custom)?])))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<HearFile, A::Error> {
                let mut patterns = Vec::new();
                while let Some(text) = seq.next_element::<String>()? {
                    patterns.push(Pattern::parse(&text).map_err(de::Error::custom)?);
                }
                if patterns.is_empty() {
                    return Err(de::Error::custom(
                        "the list is empty; write `hear: any` to answer whatever is said",
                    ));
                }
                Ok(HearFile(Hear::OneOf(patterns)))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl File {
    fn check(self, folder: &Path) -> Result<Persona, (Place, String)> {
        let at = place(&self.locale);
        let locale: Locale = self.locale.value.parse().map_err(|error| (at, format!("{error}")))?;
        let pick_up = self.pick_up()?;
        let voice = self.voice(locale, folder)?;
        let patience = self.patience.as_ref().map_or(Span::millis(600), |span| span.value);
        if let Some(spanned) = self.patience.as_ref().filter(|span| span.value < Span::millis(200)) {
            let what = "she would answer within a word; the shortest patience is 200ms";
            return Err((place(spanned), what.to_owned()));
        }
        let (hang_up_after_turn, hang_up_after) = self.hang_up()?;
        let codecs = match &self.codecs {
            None => vec![Codec::Pcma, Codec::Pcmu],
            Some(list) if list.value.is_empty() => {
                return Err((place(list), "she must talk at least one codec: PCMA or PCMU".to_owned()));
            }
            Some(list) => list
                .value
                .iter()
                .map(|codec| match codec {
                    CodecFile::Pcma => Codec::Pcma,
                    CodecFile::Pcmu => Codec::Pcmu,
                })
                .collect(),
        };
        let mut utterances = Vec::new();
        let greeting = ways(&mut utterances, self.greeting);
        let mut rules = Vec::new();
        for rule in self.rules {
            let reply =
                Reply { say: ways(&mut utterances, rule.say), then: rule.then, thinking: rule.thinking };
            rules.push(Rule { hear: rule.hear.0, reply, once: rule.once });
        }
        let otherwise = self.otherwise.map(|reply| Reply {
            say: ways(&mut utterances, reply.say),
            then: reply.then,
            thinking: reply.thinking,
        });
        let interrupt = self.interrupt.map(|interrupt| Interrupt {
            after: interrupt.after,
            on_turn: interrupt.on_turn,
            say: ways(&mut utterances, Some(interrupt.say)),
        });
        if let Some(beep) = &self.beep
            && (greeting.0.is_empty() || !(400..=2_300).contains(&beep.value))
        {
            let message = "`beep` is the pitch, 400 to 2300 Hz, of the tone behind a `greeting`: give both";
            return Err((place(beep), message.to_owned()));
        }
        Ok(Persona {
            name: self.name,
            locale,
            voice,
            pick_up,
            answer_after: self.answer_after.unwrap_or(Between::millis(1_500, 1_500)),
            codecs,
            auth: self.auth,
            talk: Talk {
                greeting,
                patience,
                thinking: self.thinking.unwrap_or(Between::millis(300, 900)),
                rules,
                otherwise,
                interrupt,
                hang_up_after_turn,
                hang_up_after,
                silent: self.silent,
                beep_hz: self.beep.map(|beep| beep.value),
            },
            utterances,
        })
    }

    fn pick_up(&self) -> Result<PickUp, (Place, String)> {
        let mut found: Option<PickUp> = None;
        let on = |flag: &Option<Spanned<bool>>, what| {
            flag.as_ref().filter(|flag| flag.value).map(|flag| (place(flag), what))
        };
        let wanted = [
            on(&self.busy, PickUp::Busy),
            on(&self.no_answer, PickUp::Never),
            on(&self.hang_up_at_once, PickUp::HangsUp),
            self.reject.as_ref().map(|code| (place(code), PickUp::Rejects(code.value))),
        ];
        for (at, what) in wanted.into_iter().flatten() {
            if let PickUp::Rejects(code) = what
                && !(400..700).contains(&code)
            {
                return Err((at, format!("{code} refuses no call; use a status from 400 to 699")));
            }
            if found.replace(what).is_some() {
                let which = "busy, no_answer, hang_up_at_once and reject exclude each other";
                return Err((at, which.to_owned()));
            }
        }
        Ok(found.unwrap_or(PickUp::Answers))
    }

    fn voice(&self, locale: Locale, folder: &Path) -> Result<Voice, (Place, String)> {
        let (name, at) = match &self.voice {
            Some(voice) => (voice.value.as_str(), place(voice)),
            None => (default_voice(locale), (1, 1)),
        };
        let family = match locale {
            Locale::ZhCn => 'z',
            Locale::EnUs => 'a',
            Locale::EnGb => 'b',
        };
        if ROBOT_VOICES.contains(&name) {
            return Err((at, format!("`{name}` is a robot's voice; choose another for the customer")));
        }
        let sound = name.starts_with(family)
            && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit());
        if !sound {
            return Err((
                at,
                format!(
                    "`{name}` does not speak {locale}; such voices begin with `{family}f_` or `{family}m_`"
                ),
            ));
        }
        let style = match &self.style {
            None => Style::Neutral,
            Some(style) => style.value.parse().map_err(|error| (place(style), format!("{error}")))?,
        };
        let within = |field: &Option<Spanned<f32>>, default: f32, low: f32, high: f32| match field {
            None => Ok(default),
            Some(value) if (low..=high).contains(&value.value) => Ok(value.value),
            Some(value) => Err((place(value), format!("{} is not between {low} and {high}", value.value))),
        };
        let noise = match &self.noise {
            None => None,
            Some(noise) => {
                let source = match (&noise.value.file, noise.value.kind) {
                    (Some(file), None) => NoiseSource::File(folder.join(file)),
                    (None, Some(NoiseKind::White)) => NoiseSource::White,
                    (None, Some(NoiseKind::Pink)) => NoiseSource::Pink,
                    (None, Some(NoiseKind::Babble)) => NoiseSource::Babble,
                    (None, None) | (Some(_), Some(_)) => {
                        return Err((place(noise), "noise has either a `file` or a `kind`".to_owned()));
                    }
                };
                if !(-10.0..=60.0).contains(&noise.value.snr_db) {
                    return Err((place(noise), "snr_db is between -10 and 60".to_owned()));
                }
                Some(Noise { source, snr_db: noise.value.snr_db })
            }
        };
        Ok(Voice {
            name: name.to_owned(),
            style,
            speed: within(&self.speed, 1.0, 0.5, 2.0)?,
            level_dbfs: within(&self.level_dbfs, -22.0, -50.0, -6.0)?,
            noise,
        })
    }

    fn hang_up(&self) -> Result<(Option<u32>, Span), (Place, String)> {
        let longest = Span::millis(600_000);
        let Some(when) = &self.hangup_after else { return Ok((None, longest)) };
        let after = match when.value.seconds {
            None => longest,
            Some(seconds) if (0.0..=600.0).contains(&seconds) => Span::millis((seconds * 1_000.0) as u64),
            Some(seconds) => return Err((place(when), format!("{seconds} s is not between 0 and 600"))),
        };
        if when.value.turns.is_none() && when.value.seconds.is_none() {
            return Err((place(when), "give `turns`, `seconds` or both".to_owned()));
        }
        if when.value.turns == Some(0) {
            return Err((place(when), "turns count from 1; see hang_up_at_once".to_owned()));
        }
        Ok((when.value.turns, after))
    }
}

fn default_voice(locale: Locale) -> &'static str {
    match locale {
        Locale::ZhCn => "zf_xiaobei",
        Locale::EnUs => "af_bella",
        Locale::EnGb => "bf_alice",
    }
}

/// Puts what is said among the utterances and returns where.
fn ways(utterances: &mut Vec<Utterance>, say: Option<Say>) -> Ways {
    let said = say.map(|say| say.0).unwrap_or_default();
    let places = said.into_iter().map(|utterance| {
        // The same words are rendered and kept once.
        utterances.iter().position(|known| *known == utterance).unwrap_or_else(|| {
            utterances.push(utterance);
            utterances.len() - 1
        })
    });
    Ways(places.collect())
}

#[cfg(test)]
mod tests;

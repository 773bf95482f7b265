//! Words of a language model, for nodes that ask for them.
//!
//! Off unless an endpoint is configured. It speaks the chat completions that most servers of language models
//! understand. What comes back is held against the node's length, the word lists and the numbers that are known;
//! whatever is late, refused or unsound leaves the node's fixed wording in its place. A draft is written for as
//! well, since words alone change nothing; its final turn gets the same words.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;
use trunkline_dialogue::State;
use trunkline_model::CallId;
use trunkline_wire::{ActionV1, GenerateV1, TurnEvent, TurnReply, TurnRequest};
use trunkline_words::Action;

use crate::WordLists;

/// Where the model is.
#[derive(Clone)]
pub struct GenerateConfig {
    /// The whole address of the chat completions.
    pub url: String,
    /// The model's name there.
    pub model: String,
    /// Sent as a bearer token.
    pub key: Option<String>,
}

impl std::fmt::Debug for GenerateConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GenerateConfig({}, {})", self.url, self.model)
    }
}

/// The HTTP client cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("could not set up the HTTP client for the language model")]
pub struct GeneratorError(#[from] reqwest::Error);

/// Asks a language model for words.
#[derive(Debug)]
pub struct Generator {
    config: GenerateConfig,
    client: reqwest::Client,
    words: Arc<WordLists>,
    made: Mutex<Made>,
}

/// What was written of late, by call, turn, revision and place among the actions.
#[derive(Debug, Default)]
struct Made {
    texts: BTreeMap<Key, Result<String, &'static str>>,
    order: VecDeque<Key>,
}

type Key = (CallId, u32, u32, usize);

/// Drafts of this many turns are remembered until their final turn.
const REMEMBERED: usize = 2_000;
/// More than any answer that could be used.
const MAX_ANSWER: usize = 64 * 1024;

impl Generator {
    /// Makes a generator whose words are held against these lists.
    ///
    /// # Errors
    /// [`GeneratorError`].
    pub fn new(config: GenerateConfig, words: Arc<WordLists>) -> Result<Self, GeneratorError> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(2))
            .user_agent(concat!("trunkline/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { config, client, words, made: Mutex::default() })
    }

    /// Returns for how long words have to be waited for, which is not at all where they are known from the draft;
    /// `None` for an answer with fixed words only.
    pub fn wanted(&self, request: &TurnRequest, reply: &TurnReply) -> Option<Duration> {
        let made = self.lock();
        let budgets = reply.actions.iter().enumerate().filter_map(|(at, action)| {
            let known = made.texts.contains_key(&(request.call, request.turn, request.rev, at));
            let budget_ms = wish(action)?.1.budget_ms;
            Some(if known { 0 } else { budget_ms })
        });
        budgets.max().map(|ms| Duration::from_millis(u64::from(ms)))
    }

    /// Puts generated words in the place of fixed ones, as far as there are any in time.
    pub async fn fill(&self, request: &TurnRequest, reply: &mut TurnReply) {
        let heard = match &request.event {
            TurnEvent::Heard { text, .. } => text.as_str(),
            TurnEvent::Answered
            | TurnEvent::NoInput
            | TurnEvent::TransferFailed { .. }
            | TurnEvent::HungUp => "",
        };
        for at in 0..reply.actions.len() {
            let Some((fixed, wish)) = reply.actions.get(at).and_then(wish) else { continue };
            let (fixed, wish) = (fixed.to_owned(), wish.clone());
            let key = (request.call, request.turn, request.rev, at);
            let known = self.lock().texts.get(&key).cloned();
            let made = match known {
                Some(made) => made,
                None => {
                    let began = Instant::now();
                    let budget = Duration::from_millis(u64::from(wish.budget_ms));
                    let asked = tokio::time::timeout(budget, self.ask(&wish, heard)).await;
                    let made = asked.unwrap_or(Err("late")).and_then(|text| self.sound(&text, &wish, heard));
                    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                    match &made {
                        Ok(_) => {
                            tracing::info!(call.id = %request.call, request.turn, ms, "Words were generated")
                        }
                        Err(why) => {
                            tracing::warn!(call.id = %request.call, request.turn, ms, why, "The fixed wording is used");
                        }
                    }
                    self.lock().keep(key, made.clone());
                    made
                }
            };
            match made {
                Ok(words) => {
                    let words = led_in(&wish.lead_in, &words);
                    reply.because.push_str("; words generated");
                    if let Ok(mut state) = serde_json::from_value::<State>(reply.state.clone()) {
                        state.replace_said(&fixed, &words);
                        reply.state = serde_json::to_value(state).unwrap_or_else(|_| reply.state.clone());
                    }
                    if let Some(ActionV1::Say { text, .. }) = reply.actions.get_mut(at) {
                        *text = words;
                    }
                }
                Err(why) => {
                    reply.because.push_str("; fixed wording: ");
                    reply.because.push_str(why);
                }
            }
        }
    }

    async fn ask(&self, wish: &GenerateV1, heard: &str) -> Result<String, &'static str> {
        let rules = format!(
            "You are the voice of a telephone robot. Answer in the language of the task, in one or two spoken \
             sentences of at most {} characters, without lists, marks or links. Name no number, name or promise \
             that the task does not give. Task: {}",
            wish.max_chars, wish.prompt
        );
        let mut messages = vec![json!({ "role": "system", "content": rules })];
        if !heard.is_empty() {
            messages.push(json!({ "role": "user", "content": heard }));
        }
        // A character is seldom more than a token.
        let body = json!({
            "model": self.config.model, "messages": messages, "temperature": 0.2, "stream": false,
            "max_tokens": wish.max_chars,
        });
        let mut post = self.client.post(&self.config.url).json(&body);
        if let Some(key) = &self.config.key {
            post = post.bearer_auth(key);
        }
        let mut response = post.send().await.map_err(|_| "not reached")?;
        if !response.status().is_success() {
            return Err("refused");
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|_| "broken off")? {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                return Err("not readable");
            }
            bytes.extend_from_slice(&chunk);
        }
        let completion: Completion = serde_json::from_slice(&bytes).map_err(|_| "not readable")?;
        let choice = completion.choices.into_iter().next().ok_or("empty")?;
        choice.message.content.ok_or("empty")
    }

    /// Returns the words if they may be spoken.
    fn sound(&self, text: &str, wish: &GenerateV1, heard: &str) -> Result<String, &'static str> {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = text.trim_matches(['"', '“', '”', '*', '`']).trim().to_owned();
        if text.is_empty() {
            return Err("empty");
        }
        if text.chars().count() > wish.max_chars {
            return Err("too long");
        }
        let marks = ["://", "www.", "**", "```", "\u{fffd}", "<|"];
        if marks.iter().any(|mark| text.contains(mark)) || text.chars().any(char::is_control) {
            return Err("nothing to be spoken");
        }
        if !digits(&text).all(|number| digits(&wish.prompt).chain(digits(heard)).any(|known| known == number))
        {
            return Err("a number that nobody named");
        }
        let found = self.words.filter().speakable(&text).found;
        if found.iter().any(|found| found.action != Action::Note) {
            Err("a word of a word list")
        } else {
            Ok(text)
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Made {
    fn keep(&mut self, key: Key, made: Result<String, &'static str>) {
        if self.texts.insert(key, made).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.texts.remove(&oldest);
            }
        }
    }
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
}

fn wish(action: &ActionV1) -> Option<(&str, &GenerateV1)> {
    match action {
        ActionV1::Say { text, generate: Some(generate), .. } => Some((text, generate)),
        ActionV1::Say { .. }
        | ActionV1::Listen { .. }
        | ActionV1::Transfer { .. }
        | ActionV1::Suppress
        | ActionV1::End { .. }
        | ActionV1::Unknown => None,
    }
}

/// Puts the lead-in in front of generated words that do not begin with it anyway.
fn led_in(lead_in: &str, words: &str) -> String {
    let bare = lead_in.trim_end_matches(|c: char| !c.is_alphanumeric());
    let begins = words.get(..bare.len()).is_some_and(|start| start.eq_ignore_ascii_case(bare));
    if bare.is_empty() || begins {
        return words.to_owned();
    }
    let gap = if lead_in.ends_with(|c: char| c.is_ascii()) { " " } else { "" };
    format!("{lead_in}{gap}{words}")
}

/// The rows of digits in a text, whatever parts their thousands.
fn digits(text: &str) -> impl Iterator<Item = String> {
    let joined: String = text.chars().filter(|c| *c != ',' && *c != '，').collect();
    let rows: Vec<String> =
        joined.split(|c: char| !c.is_numeric()).filter(|row| !row.is_empty()).map(str::to_owned).collect();
    rows.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lead_in_is_said_once() {
        assert_eq!(led_in("好的，", "我记下了。"), "好的，我记下了。");
        assert_eq!(led_in("好的，", "好的，我记下了。"), "好的，我记下了。");
        assert_eq!(led_in("Sure.", "We can do that."), "Sure. We can do that.");
        assert_eq!(led_in("Sure.", "Sure, we can."), "Sure, we can.");
        assert_eq!(led_in("", "明白。"), "明白。");
    }

    fn generator() -> Generator {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let list =
            "schema: trunkline/words/1\nid: a\nentries: [{words: [保本], side: robot, action: withhold}]\n";
        std::fs::write(dir.path().join("a.yaml"), list).unwrap();
        let words = Arc::new(WordLists::open(Some(dir.path().to_owned())).unwrap());
        let config = GenerateConfig { url: "http://127.0.0.1:1/".into(), model: "m".into(), key: None };
        Generator::new(config, words).unwrap()
    }

    #[test]
    fn only_words_that_can_be_spoken_are_spoken() {
        let generator = generator();
        let wish = GenerateV1 {
            prompt: "说明每月还款1,280元".into(),
            budget_ms: 500,
            max_chars: 20,
            lead_in: String::new(),
        };
        let sound = |text: &str| generator.sound(text, &wish, "分3期可以吗");
        assert_eq!(sound(" “可以分3期，\n每期另算。” ").as_deref(), Ok("可以分3期， 每期另算。"));
        assert_eq!(sound("每月1280元。").as_deref(), Ok("每月1280元。"));
        for (text, why) in [
            ("", "empty"),
            ("每月只要99元。", "a number that nobody named"),
            ("这是一句很长很长很长很长很长很长很长的话。", "too long"),
            ("请看https://a.cn", "nothing to be spoken"),
            ("本产品保 本。", "a word of a word list"),
        ] {
            assert_eq!(sound(text), Err(why), "{text}");
        }
    }

    #[tokio::test]
    async fn a_model_that_is_not_there_leaves_the_fixed_wording() {
        let generator = generator();
        let mut reply: TurnReply = serde_json::from_value(json!({
            "call": CallId::from_u128(1), "turn": 1, "rev": 1, "mode": "final", "state": null, "node": "talk",
            "because": "intent yes", "took_us": 0,
            "actions": [{ "do": "say", "node": "talk", "text": "我记下了。", "barge_in": "allowed",
                "generate": { "prompt": "x", "budget_ms": 300, "max_chars": 50 } }],
        }))
        .unwrap();
        let request = TurnRequest {
            call: reply.call,
            turn: 1,
            rev: 1,
            mode: trunkline_wire::TurnKind::Final,
            event: TurnEvent::NoInput,
            state: None,
            elapsed_s: 3,
            budget_ms: 900,
        };
        assert_eq!(generator.wanted(&request, &reply), Some(Duration::from_millis(300)));
        generator.fill(&request, &mut reply).await;
        assert!(matches!(&reply.actions[0], ActionV1::Say { text, .. } if text == "我记下了。"));
        assert_eq!(reply.because, "intent yes; fixed wording: not reached");
        assert_eq!(
            generator.wanted(&request, &reply),
            Some(Duration::ZERO),
            "the final turn asks nobody again"
        );
    }
}

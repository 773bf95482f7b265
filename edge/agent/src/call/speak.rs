//! What the robot says: pieces from the prompt store, and pieces that are made while those before them play.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::mpsc;
use tracing::{debug, warn};
use trunkline_call::Media;
use trunkline_line::{Clip, Command};
use trunkline_speech::synth::{Locale, Prompt, PromptStore, SpeechRequest, pieces};

use super::{Driver, Message, RENDER_AT_ONCE};
use crate::speech::{VoiceOf, sentences};

/// Samples in a millisecond.
const PER_MS: usize = 8;

/// The prompt that plays. When it is dropped, what is still to be made of it is not made any more.
pub(super) struct Playing {
    pub(super) say: u32,
    parts: Vec<Part>,
    /// Parts that were handed to the media thread.
    made: usize,
    /// The voice failed before the end.
    broken: bool,
    dropped: Arc<AtomicBool>,
}

/// A piece of it.
struct Part {
    chars: usize,
    /// Samples, a pause behind it included; a guess until it is made.
    length: usize,
}

/// A piece that is to be spoken, and the silence behind it in samples.
#[derive(Clone)]
struct Spoken {
    request: SpeechRequest,
    gap: usize,
}

impl Playing {
    fn new(say: u32, row: &[Spoken], locale: Locale) -> Self {
        let per_char = if locale == Locale::ZhCn { 1_700 } else { 520 };
        let part = |spoken: &Spoken| {
            let chars = spoken.request.text.chars().count();
            Part { chars, length: chars * per_char + spoken.gap }
        };
        let parts = row.iter().map(part).collect();
        Self { say, parts, made: 0, broken: false, dropped: Arc::default() }
    }

    /// How long all of it is, in samples, as far as that is known.
    pub(super) fn length(&self) -> usize {
        self.parts.iter().map(|part| part.length).sum::<usize>().max(1)
    }

    /// The share of the words that `samples` of it have told. What is not made yet changes nothing of what was
    /// heard.
    pub(super) fn heard(&self, samples: usize) -> f32 {
        let all: usize = self.parts.iter().map(|part| part.chars).sum();
        let (mut left, mut heard) = (samples as f32, 0.0);
        for part in &self.parts {
            let share = (left / part.length.max(1) as f32).min(1.0);
            heard += share * part.chars as f32;
            left -= part.length as f32;
            if left <= 0.0 {
                break;
            }
        }
        (heard / all.max(1) as f32).clamp(0.0, 1.0)
    }

    /// Whether the voice failed in the middle, and how much was said until then.
    pub(super) fn broke_off(&self) -> Option<f32> {
        let said = self.parts.iter().take(self.made).map(|part| part.length).sum();
        self.broken.then(|| self.heard(said))
    }

    /// Nothing more is made of it.
    pub(super) fn give_up(&self) {
        self.dropped.store(true, Ordering::Relaxed);
    }

    fn took(&mut self, samples: usize, is_all: bool) {
        if is_all {
            let chars = self.parts.iter().map(|part| part.chars).sum();
            self.parts = vec![Part { chars, length: samples }];
        } else if let Some(part) = self.parts.get_mut(self.made) {
            part.length = samples;
        }
        self.made += 1;
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl Driver {
    /// Plays a text: what is rendered goes out at once, the rest is synthesised meanwhile, clause by clause.
    pub(super) fn play(&mut self, say: u32, text: &str) {
        let Some(voice) = &self.voice else { return };
        let store = Arc::clone(&self.shared.speech.prompts);
        let row = row(&store, voice, text);
        let ready: Vec<Arc<Prompt>> = row
            .iter()
            .take_while(|spoken| store.contains(&store.key(&spoken.request)))
            .map_while(|spoken| store.get_or_render(&spoken.request).ok())
            .collect();
        let whole = voice.request(text);
        let playing = Playing::new(say, &row, voice.locale());
        let dropped = Arc::clone(&playing.dropped);
        self.playing = Some(playing);
        if row.is_empty() {
            return self.core.handle_media(Instant::now(), Media::Failed { say, heard: 0.0 });
        }
        let (count, of) = (ready.len(), row.len());
        for (at, (prompt, spoken)) in ready.into_iter().zip(&row).enumerate() {
            let clip = with_gap(&prompt, spoken.gap);
            self.on_clip(Instant::now(), say, Some(clip), at == 0, at + 1 == of);
        }
        if count < of {
            let rest = Rest { say, row, at: count, whole, dropped };
            tokio::spawn(rest.make(store, self.own.clone()));
        }
    }

    pub(super) fn on_clip(&mut self, now: Instant, say: u32, clip: Option<Clip>, first: bool, last: bool) {
        let Some(playing) = self.playing.as_mut().filter(|playing| playing.say == say) else { return };
        let order = match clip {
            Some(clip) => {
                playing.took(clip.len(), first && last);
                if first { Command::Play { say, clip, last } } else { Command::Append { say, clip, last } }
            }
            None if playing.made == 0 => {
                return self.core.handle_media(now, Media::Failed { say, heard: 0.0 });
            }
            None => {
                // What was said stays said; nothing comes behind it.
                playing.broken = true;
                Command::Append { say, clip: Arc::from([]), last: true }
            }
        };
        self.order(order);
    }

    /// Begins to synthesise what will probably be said: `soon` clause by clause, as it will be played, else by
    /// the sentence, which has the better melody.
    pub(super) fn warm(&self, text: &str, soon: bool) {
        let Some(voice) = &self.voice else { return };
        let store = Arc::clone(&self.shared.speech.prompts);
        let wanted: Vec<SpeechRequest> = if soon {
            row(&store, voice, text).into_iter().map(|spoken| spoken.request).collect()
        } else {
            sentences(text).iter().map(|sentence| voice.request(sentence)).collect()
        };
        let missing: Vec<_> =
            wanted.into_iter().filter(|request| !store.contains(&store.key(request))).collect();
        if !missing.is_empty() {
            tokio::task::spawn_blocking(move || {
                for request in missing {
                    if let Err(error) = store.get_or_render(&request) {
                        debug!(%error, "Not synthesised ahead");
                    }
                }
            });
        }
    }
}

/// What is to be spoken for a text: sentences that were rendered whole, and the others cut at their clauses.
fn row(store: &PromptStore, voice: &VoiceOf, text: &str) -> Vec<Spoken> {
    let mut row = Vec::new();
    for sentence in sentences(text) {
        let whole = voice.request(&sentence);
        if store.contains(&store.key(&whole)) {
            row.push(Spoken { request: whole, gap: 0 });
            continue;
        }
        for piece in pieces(&sentence, voice.locale(), row.is_empty()) {
            let request = SpeechRequest { one_of_several: true, ..voice.request(&piece.text) };
            let gap = request.pause_ms(piece.pause_ms) as usize * PER_MS;
            row.push(Spoken { request, gap });
        }
    }
    if let Some(last) = row.last_mut() {
        last.gap = 0;
    }
    row
}

fn with_gap(prompt: &Prompt, gap: usize) -> Clip {
    if gap == 0 {
        return Arc::clone(&prompt.samples);
    }
    prompt.samples.iter().copied().chain(std::iter::repeat_n(0, gap)).collect()
}

/// What is still to be made of a prompt.
struct Rest {
    say: u32,
    row: Vec<Spoken>,
    /// The first piece that is missing.
    at: usize,
    /// All of it, for the voice that steps in.
    whole: SpeechRequest,
    dropped: Arc<AtomicBool>,
}

impl Rest {
    /// Makes piece after piece: the first with all there is, then two at once, so that a voice that is slower
    /// than speech keeps up with itself.
    async fn make(self, store: Arc<PromptStore>, own: mpsc::UnboundedSender<Message>) {
        let of = self.row.len();
        let mut waiting = self.row.iter().enumerate().skip(self.at);
        let mut running = VecDeque::new();
        let mut lanes = if self.at == 0 { 1 } else { RENDER_AT_ONCE };
        loop {
            while running.len() < lanes
                && !self.dropped.load(Ordering::Relaxed)
                && let Some((at, spoken)) = waiting.next()
            {
                let (store, request) = (Arc::clone(&store), spoken.request.clone());
                let job = tokio::task::spawn_blocking(move || store.get_or_render(&request));
                running.push_back((at, spoken.gap, job));
            }
            let Some((at, gap, job)) = running.pop_front() else { return };
            lanes = RENDER_AT_ONCE;
            let clip = match job.await {
                Ok(Ok(prompt)) => Some(with_gap(&prompt, gap)),
                Ok(Err(error)) if at == 0 => {
                    warn!(%error, "Not synthesised by clauses; all of it in one voice");
                    self.all_at_once(&store, &own).await;
                    return;
                }
                Ok(Err(error)) => {
                    warn!(%error, "Not synthesised to its end");
                    None
                }
                Err(error) => {
                    warn!(%error, "Not synthesised to its end");
                    None
                }
            };
            let is_broken = clip.is_none();
            let clip = Message::Clip { say: self.say, clip, first: at == 0, last: at + 1 == of };
            if own.send(clip).is_err() || is_broken {
                return;
            }
        }
    }

    /// The whole text in one piece, which another engine may speak.
    async fn all_at_once(&self, store: &Arc<PromptStore>, own: &mpsc::UnboundedSender<Message>) {
        let (store, request) = (Arc::clone(store), self.whole.clone());
        let made = tokio::task::spawn_blocking(move || store.get_or_render(&request)).await;
        let clip = match made {
            Ok(Ok(prompt)) => Some(Arc::clone(&prompt.samples)),
            Ok(Err(error)) => {
                warn!(%error, "Not synthesised");
                None
            }
            Err(_) => None,
        };
        let _ = own.send(Message::Clip { say: self.say, clip, first: true, last: true });
    }
}

#[cfg(test)]
mod tests {
    use trunkline_speech::synth::{ClauseEnd, SAMPLE_RATE, Speech, SynthError, Synthesizer};

    use super::*;

    /// Tenths of a second of a tone for each character, unless the text holds `fails`.
    struct Tone;

    impl Synthesizer for Tone {
        fn stream(
            &self,
            req: &SpeechRequest,
            sink: &mut dyn FnMut(Speech) -> bool,
        ) -> Result<(), SynthError> {
            if req.text.contains('坏') && req.one_of_several {
                return Err(SynthError::BadOutput("as asked".to_owned()));
            }
            let length = req.text.chars().count() * SAMPLE_RATE as usize / 10;
            let samples: Vec<f32> = (0..length).map(|n| 0.3 * (n as f32 * 0.2).sin()).collect();
            let clauses = vec![ClauseEnd { text: req.text.clone(), end: length }];
            sink(Speech { samples, clauses });
            Ok(())
        }

        fn version(&self) -> &str {
            "tone/1"
        }
    }

    fn store(dir: &std::path::Path) -> Arc<PromptStore> {
        Arc::new(PromptStore::open(dir, Arc::new(Tone), 1 << 20).unwrap())
    }

    fn voice() -> VoiceOf {
        let text = include_str!("../../../../shared/scripts/repayment-reminder-zh.yaml");
        VoiceOf::script(&trunkline_dialogue::Script::load(text).unwrap()).unwrap()
    }

    async fn made(
        store: &Arc<PromptStore>,
        row: Vec<Spoken>,
        whole: &str,
    ) -> Vec<(Option<usize>, bool, bool)> {
        let (own, mut inbox) = mpsc::unbounded_channel();
        let whole = voice().request(whole);
        let rest = Rest { say: 1, row, at: 0, whole, dropped: Arc::default() };
        rest.make(Arc::clone(store), own).await;
        let mut clips = Vec::new();
        while let Some(message) = inbox.recv().await {
            let Message::Clip { say: 1, clip, first, last } = message else { panic!("{message:?}") };
            clips.push((clip.map(|clip| clip.len()), first, last));
        }
        clips
    }

    #[tokio::test]
    async fn a_text_that_nobody_rendered_comes_clause_by_clause_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let text = "好的，我把您的地址改成了新的那一个。还有别的事情吗？";
        let row = row(&store, &voice(), text);
        assert_eq!(row.len(), 3);
        let clips = made(&store, row, text).await;
        let flags: Vec<(bool, bool)> = clips.iter().map(|(_, first, last)| (*first, *last)).collect();
        assert_eq!(flags, [(true, false), (false, false), (false, true)]);
        let lengths: Vec<usize> = clips.iter().filter_map(|(clip, ..)| *clip).collect();
        assert!(
            lengths[0] > 3 * 800 && lengths[0] < 3 * 800 + 2_000,
            "three characters and a pause: {lengths:?}"
        );
        assert!(lengths[1] > 10 * 800, "{lengths:?}");
    }

    #[test]
    fn what_was_rendered_whole_is_played_whole_and_only_the_first_new_clause_is_short() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let texts = |text: &str| -> Vec<String> {
            row(&store, &voice(), text).into_iter().map(|spoken| spoken.request.text).collect()
        };
        assert_eq!(texts("好的，我记下了。"), ["好的，", "我记下了。"]);
        store.get_or_render(&voice().request("好的，我记下了。")).unwrap();
        assert_eq!(texts("好的，我记下了。是的，谢谢。"), ["好的，我记下了。", "是的，谢谢。"]);
        // A lead-in that was rendered ahead is found under the name of the first clause.
        store.get_or_render(&voice().request("明白，")).unwrap();
        let led = row(&store, &voice(), "明白，我马上去办。");
        assert!(store.contains(&store.key(&led[0].request)));
    }

    #[tokio::test]
    async fn a_voice_that_fails_is_never_mixed_with_another() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let first = "坏的，我把您的地址改成了新的那一个。";
        let clips = made(&store, row(&store, &voice(), first), first).await;
        assert_eq!(clips.len(), 1, "all of it by whoever can: {clips:?}");
        assert!(clips[0].0.is_some() && clips[0].1 && clips[0].2);
        let later = "好的，我把您的地址改成了坏的那一个。";
        let clips = made(&store, row(&store, &voice(), later), later).await;
        assert_eq!(clips.iter().map(|(clip, ..)| clip.is_some()).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn what_was_heard_is_counted_in_words_whatever_is_not_made_yet() {
        let dir = tempfile::tempdir().unwrap();
        let row = row(&store(dir.path()), &voice(), "好的，我把您的地址改成了新的那一个。");
        let chars: Vec<usize> = row.iter().map(|spoken| spoken.request.text.chars().count()).collect();
        let mut playing = Playing::new(1, &row, Locale::ZhCn);
        let share = chars[0] as f32 / chars.iter().sum::<usize>() as f32;
        playing.took(4_000, false);
        // Broken into between the clauses: the first was heard, and nothing else.
        assert!((playing.heard(4_000) - share).abs() < 0.001);
        assert!((playing.heard(2_000) - share / 2.0).abs() < 0.001);
        playing.took(40_000, false);
        assert!((playing.heard(4_000) - share).abs() < 0.001, "the second is longer than was thought");
        assert_eq!(playing.heard(44_000), 1.0);
        assert_eq!((playing.length(), playing.broke_off()), (44_000, None));
        playing.broken = true;
        playing.made = 1;
        assert!((playing.broke_off().unwrap() - share).abs() < 0.001);
    }
}

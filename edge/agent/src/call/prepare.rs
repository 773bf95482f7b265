//! What a call needs before its first word: the script, what understands it, the word lists, the prompts.

use std::collections::BTreeMap;
use std::sync::Arc;

use trunkline_wire::ScriptRef;

use super::{Prepared, RENDER_AT_ONCE};
use crate::speech::{VoiceOf, pieces_ahead};
use crate::supervisor::Shared;

/// Fetches a script, learns to understand it, and renders every prompt that is known ahead; `rendering` is told how
/// many of how many are done.
pub(crate) async fn ready(
    shared: &Arc<Shared>,
    script: &ScriptRef,
    variables: &BTreeMap<String, String>,
    words: &[String],
    rendering: impl Fn(usize, usize),
) -> Result<Box<Prepared>, String> {
    let script = shared.blobs.script(&script.version).await.map_err(|e| format!("{e:#}"))?;
    shared.gate.learn(&script);
    let (all, learnt) = (Arc::clone(shared), Arc::clone(&script));
    let learnt = tokio::task::spawn_blocking(move || all.floor.prepare(&learnt));
    let floor = learnt.await.map_err(|e| format!("{e:#}"))?.map_err(|e| format!("{e:#}"))?;
    let words = shared.words.filter(&shared.blobs, words).await.map_err(|e| format!("{e:#}"))?;
    let voice = VoiceOf::script(&script).map_err(|e| format!("{e:#}"))?;
    let pieces = pieces_ahead(&script, variables, jiff::Zoned::now().date());
    let missing: Vec<_> = pieces
        .iter()
        .map(|piece| voice.request(piece))
        .filter(|request| !shared.speech.prompts.contains(&shared.speech.prompts.key(request)))
        .collect();
    let of = missing.len();
    let mut waiting = missing.into_iter();
    let mut running = tokio::task::JoinSet::new();
    let mut done = 0;
    loop {
        while running.len() < RENDER_AT_ONCE
            && let Some(request) = waiting.next()
        {
            let prompts = Arc::clone(&shared.speech.prompts);
            running.spawn_blocking(move || prompts.get_or_render(&request).map(|_| ()));
        }
        match running.join_next().await {
            None => break,
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => return Err(format!("a prompt cannot be rendered: {error}")),
            Some(Err(error)) => return Err(format!("a prompt cannot be rendered: {error}")),
        }
        done += 1;
        rendering(done, of);
    }
    Ok(Box::new(Prepared { script, voice, words, floor }))
}

//! What comes over the link, from the repository of updates, and in files that people write.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use trunkline_model::CallId;
use trunkline_policy::{Pack, Packs};
use trunkline_trust::{Envelope as Signed, canonical};
use trunkline_update::Manifest;
use trunkline_wire::{
    Ack, Birth, CallProgress, CallRecord, CancelCommand, Desired, DialCommand, DialReply, EnrolRequest,
    Envelope, Reported, SuppressCommand, SuppressReply, TurnReply, TurnRequest, parse,
};

/// A message of either side. What is read and written again is the same.
pub(crate) fn wire(bytes: &[u8]) {
    fn one<T: DeserializeOwned + Serialize>(bytes: &[u8]) {
        let Ok(message) = parse::<Envelope<T>>(bytes) else { return };
        let written = serde_json::to_vec(&message).expect("a message can be written");
        let again: Envelope<T> = serde_json::from_slice(&written).expect("what was written can be read");
        let rewritten = serde_json::to_vec(&again).expect("a message can be written");
        assert_eq!(written, rewritten, "a message changes by being passed on");
    }
    one::<TurnRequest>(bytes);
    one::<TurnReply>(bytes);
    one::<DialCommand>(bytes);
    one::<DialReply>(bytes);
    one::<CancelCommand>(bytes);
    one::<CallProgress>(bytes);
    one::<CallRecord>(bytes);
    one::<SuppressCommand>(bytes);
    one::<SuppressReply>(bytes);
    one::<Desired>(bytes);
    one::<Reported>(bytes);
    one::<EnrolRequest>(bytes);
    one::<Birth>(bytes);
    one::<Ack>(bytes);
}

pub(crate) fn messages() -> Vec<Vec<u8>> {
    let call = CallId::from_u128(7);
    let message = |kind: &str, body: serde_json::Value| {
        json!({ "v": 1, "id": "019a0000-0000-7000-8000-000000000001", "box": "tl-a", "sess": 3, "seq": 12,
            "ts": "2026-11-22T10:00:00Z", "mono": 5, "type": kind, "body": body })
        .to_string()
        .into_bytes()
    };
    let script = json!({ "id": "appointment-confirmation-en", "version": "0".repeat(64) });
    vec![
        message(
            "turn",
            json!({ "call": call, "turn": 1, "rev": 2, "mode": "draft", "elapsed_s": 9, "budget_ms": 900,
            "event": { "kind": "heard", "text": "是我", "logprob": -0.2 }, "state": { "v": 1 } }),
        ),
        message(
            "turn.res",
            json!({ "call": call, "turn": 1, "rev": 2, "mode": "final", "state": {}, "node": "open",
            "actions": [{ "do": "say", "node": "open", "text": "您好", "barge_in": { "off_until": 3 } },
                { "do": "listen", "no_input_ms": 5000 }, { "do": "end", "outcome": { "code": "agreed", "label": "" } }] }),
        ),
        message(
            "dial",
            json!({ "call": call, "callee": "+15550100199", "script": script, "variables": { "name": "A" } }),
        ),
        message(
            "call.ended",
            json!({ "call": call, "script": script, "started": "2026-11-22T10:00:00Z",
            "answered": "2026-11-22T10:00:05Z", "ended": "2026-11-22T10:00:35Z", "disposition": "completed",
            "outcome": { "code": "agreed", "label": "" }, "turns": [{ "turn": 1,
                "customer": { "text": "yes", "start_s": 1.0, "end_s": 1.5 },
                "decision": { "node": "open", "because": "intent yes" }, "robot": [] }] }),
        ),
        message("call.progress", json!({ "call": call, "stage": "ringing" })),
        message("conn", json!({ "online": true, "sess": 3, "channels": 4 })),
        message("ack", json!({ "upto": 9, "except": [4, 5] })),
        message("suppress", json!({ "upto": 2, "changes": [] })),
    ]
}

/// A policy pack.
pub(crate) fn pack(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Pack::from_yaml("a.yaml", text);
    }
}

pub(crate) fn packs() -> Vec<Vec<u8>> {
    let shipped = Packs::shipped().expect("a test of the packs rules that out");
    shipped.all().map(|pack| pack.text().as_bytes().to_vec()).collect()
}

/// A signed document of the repository.
pub(crate) fn signed(bytes: &[u8]) {
    if let Ok(value) = canonical::parse(bytes) {
        let written = canonical::to_bytes(&value).expect("what was read can be written");
        let again = canonical::parse(&written).expect("the canonical form can be read");
        assert_eq!(canonical::to_bytes(&again).expect("and written"), written, "the canonical form is one");
    }
    let _ = Signed::parse(bytes);
}

pub(crate) fn documents() -> Vec<Vec<u8>> {
    let signed = json!({ "_type": "targets", "spec_version": "1.0.31", "version": 3, "expires": "2027-01-01T00:00:00Z",
        "targets": { "app-1.json": { "length": 12, "hashes": { "sha256": "0".repeat(64) } } } });
    let document =
        json!({ "signed": signed, "signatures": [{ "keyid": "a".repeat(64), "sig": "b".repeat(128) }] });
    vec![document.to_string().into_bytes()]
}

/// What an update consists of.
pub(crate) fn manifest(bytes: &[u8]) {
    let _ = Manifest::parse(bytes);
}

pub(crate) fn manifests() -> Vec<Vec<u8>> {
    let file = json!({ "path": "bin/trunkline-edge", "mode": 493, "length": 5, "sha256": "0".repeat(64),
        "chunks": [{ "sha256": "0".repeat(64), "length": 5, "offset": 0 }] });
    let release = json!({ "component": "app", "version": "1.2.0", "release": 12, "platforms": ["x86_64"] });
    let manifest = json!({ "format": 1, "release": release, "pack_length": 5, "files": [file] });
    vec![manifest.to_string().into_bytes()]
}

//! The gate on the box, over files in a folder of its own.

use trunkline_model::CallId;
use trunkline_policy::receipt::verify;
use trunkline_policy::{
    Attempt, AttemptResult, Basis, Change, Consent, Dossier, Fingerprint, Hours, Line, LineKind, ListState,
    Operations, Order, Plan, Purpose, Recording, Suppression as Listed, VoicemailAction,
};
use trunkline_wire::{ScriptRef, Suppression};

use super::*;

/// Monday, 23 November 2026, 10:30 in Shanghai.
const DAY: &str = "2026-11-23T02:30:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn script() -> Script {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/scripts/repayment-reminder-zh.yaml");
    Script::load(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn command(n: u128) -> DialCommand {
    let consent = Consent {
        basis: Basis::Contract,
        given: None,
        expires: None,
        revoked: None,
        purposes: Default::default(),
        ai_voice: true,
        proof: Some("contract 4".into()),
    };
    let dossier = Dossier {
        country: None,
        region: None,
        zone: None,
        consent: Some(consent),
        opt_outs: vec![],
        suppressions: vec![],
        wrong_party_at: None,
        reverified_at: None,
        vulnerable: false,
        debt: None,
        history: vec![],
        line: Some(Line {
            id: "tl-a/trunk".into(),
            kind: LineKind::Sip,
            country: None,
            lab: false,
            caller_id: None,
            did: None,
            local_presence: false,
            attestation: None,
            sim: None,
        }),
        plan: Plan {
            // The script's purpose counts, whatever the lease says.
            purpose: Purpose::Marketing,
            campaign: None,
            windows: vec![],
            ring_s: 30,
            script: ScriptFacts::default(),
            recording: Recording::Notice,
            first_word_ms: 800,
            voicemail: VoicemailAction::HangUp,
            emotion: false,
            human_available: false,
        },
        operations: Operations {
            lists: vec![ListState { list: "national".into(), as_of: at("2026-11-23T00:00:00Z") }],
            revocation_lag_s: 0,
            history_complete: true,
            retention_days: 365,
            subject_rights: true,
            oldest_complaint_days: 0,
            abandonment: None,
            audio_label: true,
        },
    };
    let script = script();
    let cn = Packs::shipped().unwrap().get("cn").unwrap().reference();
    DialCommand {
        call: CallId::from_u128(n),
        callee: "+8613800138000".parse().unwrap(),
        caller_id: None,
        script: ScriptRef { id: script.id().clone(), version: script.version().clone() },
        variables: Default::default(),
        before: at("2026-11-23T03:00:00Z"),
        ring_s: 30,
        gate: Some(Box::new(Order { packs: vec![cn], dossier, suppressions: 0 })),
        words: Vec::new(),
        arms: std::collections::BTreeMap::new(),
    }
}

struct World {
    dir: tempfile::TempDir,
    gate: BoxGate,
    filed: Vec<Entry>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let gate = BoxGate::open(dir.path()).unwrap();
        gate.learn(&script());
        Self { dir, gate, filed: Vec::new() }
    }

    fn permit(&mut self, command: &DialCommand, unlinked_s: u64, now: &str) -> Result<(), String> {
        let filed = &mut self.filed;
        self.gate.permit(command, unlinked_s, at(now), |entry| {
            filed.push(entry.clone());
            Ok(())
        })
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("receipts.jsonl")).unwrap()
    }
}

fn opted_out(n: u64) -> SuppressCommand {
    let opt_out = OptOut { scope: OptOutScope::Number, channel: "spoken".into(), at: at(DAY) };
    let who = Fingerprint::of(&"+8613800138000".parse().unwrap());
    let changes = vec![Suppression { n, who, change: Change::OptedOut(opt_out) }];
    SuppressCommand { after: n - 1, upto: n, changes }
}

#[test]
fn what_the_cloud_allowed_is_allowed_here_and_refused_when_the_world_has_changed_since() {
    let mut world = World::new();
    assert_eq!(world.permit(&command(1), 0, DAY), Ok(()));
    let refused = |word: &str| Err(format!("not permitted: {word}"));
    assert_eq!(world.permit(&command(2), 0, "2026-11-23T15:00:00Z"), refused("outside_hours"), "23:00");
    let mut other = command(3);
    let order = other.gate.as_mut().unwrap();
    order.dossier.plan.windows =
        vec![Hours { days: vec![], from: "14:00".parse().unwrap(), to: "15:00".parse().unwrap() }];
    assert_eq!(world.permit(&other, 0, DAY), refused("outside_hours"), "the campaign's own windows");
    let mut other = command(4);
    other.gate.as_mut().unwrap().dossier.history = vec![Attempt {
        at: at("2026-11-23T02:20:00Z"),
        result: AttemptResult::NotConnected,
        same_number: true,
        debt: None,
    }];
    assert_eq!(world.permit(&other, 0, DAY), refused("spacing"));
    other.call = CallId::from_u128(8);
    other.gate.as_mut().unwrap().dossier.history[0] = Attempt {
        at: at("2026-11-21T02:20:00Z"),
        result: AttemptResult::Abandoned,
        same_number: true,
        debt: None,
    };
    assert_eq!(world.permit(&other, 0, DAY), refused("abandoned_rest"), "two days of three");
    assert_eq!(world.permit(&command(5), 61, DAY), refused("revocation_lag"), "out of reach for a minute");
    let mut other = command(6);
    other.gate.as_mut().unwrap().suppressions = 1;
    assert_eq!(world.permit(&other, 0, DAY), refused("revocation_lag"), "the lease knows more than the box");

    assert_eq!(world.gate.suppress(&opted_out(1)), 1);
    assert_eq!(world.permit(&command(7), 0, DAY), refused("opted_out"));

    assert_eq!(verify(&world.log()).unwrap().map(|(seq, _)| seq), Some(8), "each decision has its receipt");
    assert_eq!(world.filed.len(), 8);
    let last = world.filed[7].read().unwrap();
    assert_eq!((last.stage, last.call), (Stage::Dial, CallId::from_u128(7)));
    assert_eq!(last.inputs.purpose, "debt_reminder");
    assert!(!world.log().contains("138001380"), "a receipt holds no number");
}

#[test]
fn a_pack_that_the_box_lacks_is_asked_for_by_its_hash_and_another_one_is_refused() {
    let mut world = World::new();
    let text = Packs::shipped().unwrap().get("cn").unwrap().text().replace("version: 2", "version: 7");
    let newer = Pack::from_yaml("cn", &text).unwrap().reference();
    assert_eq!(newer.version, 7);
    let mut command = command(1);
    assert_eq!(world.gate.missing(&command), []);
    command.gate.as_mut().unwrap().packs = vec![newer.clone()];
    assert_eq!(world.gate.missing(&command), std::slice::from_ref(&newer));
    assert!(world.permit(&command, 0, DAY).is_err(), "not here yet");
    let us = Packs::shipped().unwrap().get("us").unwrap().text().to_owned();
    assert!(world.gate.take_pack(&newer, &us).is_err());
    world.gate.take_pack(&newer, &text).unwrap();
    assert_eq!(world.permit(&command, 0, DAY), Ok(()));
    assert_eq!(world.filed.last().unwrap().read().unwrap().decision.packs, [newer]);
}

#[test]
fn what_is_missing_fails_closed() {
    let mut world = World::new();
    let mut bare = command(1);
    bare.gate = None;
    assert!(world.permit(&bare, 0, DAY).unwrap_err().contains("does not say"));
    let mut other = command(2);
    other.gate.as_mut().unwrap().packs[0].sha256 = "0".repeat(64);
    assert!(world.permit(&other, 0, DAY).unwrap_err().contains("policy pack"));
    let mut none = command(3);
    none.gate.as_mut().unwrap().packs.clear();
    assert!(world.permit(&none, 0, DAY).unwrap_err().contains("jurisdiction_unknown"));
    // A script whose facts nobody read promises nothing.
    let gate = BoxGate::open(world.dir.path()).unwrap();
    assert!(gate.permit(&command(4), 0, at(DAY), |_| Ok(())).is_err());
    let no_receipt = world.gate.permit(&command(5), 0, at(DAY), |_| Err(anyhow::anyhow!("disk full")));
    assert!(no_receipt.unwrap_err().contains("disk full"));
}

#[test]
fn a_customers_own_word_counts_before_the_cloud_knows_and_survives_a_restart() {
    let mut world = World::new();
    world.gate.opted_out(&command(1).callee, at(DAY));
    assert_eq!(world.permit(&command(1), 0, DAY), Err("not permitted: opted_out".into()));
    let gate = BoxGate::open(world.dir.path()).unwrap();
    gate.learn(&script());
    assert_eq!(gate.permit(&command(2), 0, at(DAY), |_| Ok(())), Err("not permitted: opted_out".into()));
    assert_eq!(gate.position().load(Ordering::Relaxed), 0, "the cloud numbers it later");
}

#[test]
fn the_chain_goes_on_after_a_restart_and_a_torn_end_is_mended() {
    let mut world = World::new();
    world.permit(&command(1), 0, DAY).unwrap();
    let path = world.dir.path().join("receipts.jsonl");
    let mut torn = std::fs::read(&path).unwrap();
    torn.extend_from_slice(b"{\"seq\":2,\"prev\"");
    std::fs::write(&path, torn).unwrap();
    world.gate = BoxGate::open(world.dir.path()).unwrap();
    world.gate.learn(&script());
    world.permit(&command(2), 0, DAY).unwrap();
    assert_eq!(verify(&world.log()).unwrap().map(|(seq, _)| seq), Some(2));

    // One flipped bit, and the chain is set aside; a new one begins.
    let mut text = std::fs::read(&path).unwrap();
    text[400] ^= 1;
    std::fs::write(&path, text).unwrap();
    world.gate = BoxGate::open(world.dir.path()).unwrap();
    world.gate.learn(&script());
    world.permit(&command(3), 0, DAY).unwrap();
    assert_eq!(verify(&world.log()).unwrap().map(|(seq, _)| seq), Some(1));
    let aside = std::fs::read_dir(world.dir.path()).unwrap().filter_map(Result::ok);
    assert!(aside.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().contains("broken-")));
}

#[test]
fn a_list_entry_that_was_pushed_stops_the_call() {
    let mut world = World::new();
    let who = Fingerprint::of(&command(1).callee);
    let change = Change::Listed(Listed { list: "litigator".into(), until: None });
    world.gate.suppress(&SuppressCommand {
        after: 0,
        upto: 5,
        changes: vec![Suppression { n: 5, who, change }],
    });
    assert_eq!(world.permit(&command(1), 0, DAY), Err("not permitted: suppressed".into()));
    let change = Change::Unlisted("litigator".into());
    world.gate.suppress(&SuppressCommand {
        after: 5,
        upto: 6,
        changes: vec![Suppression { n: 6, who, change }],
    });
    assert_eq!(world.permit(&command(2), 0, DAY), Ok(()));
}

#[test]
fn an_entry_for_one_campaign_stops_its_calls_and_no_others() {
    let mut world = World::new();
    let who = Fingerprint::of(&command(1).callee);
    let change = Change::Listed(Listed { list: "campaign:cmp_1".into(), until: None });
    let changes = vec![Suppression { n: 5, who, change }];
    world.gate.suppress(&SuppressCommand { after: 0, upto: 5, changes });
    let of = |n: u128, campaign: Option<&str>| {
        let mut command = command(n);
        let order = command.gate.as_mut().unwrap();
        order.dossier.plan.campaign = campaign.map(str::to_owned);
        command
    };
    assert_eq!(world.permit(&of(1, Some("cmp_1")), 0, DAY), Err("not permitted: suppressed".into()));
    assert_eq!(world.permit(&of(2, Some("cmp_2")), 0, DAY), Ok(()));
    assert_eq!(world.permit(&of(3, None), 0, DAY), Ok(()));
}

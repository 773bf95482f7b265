//! What a policy pack demands of a script: what the gate would refuse every call for, found before there is one.

use trunkline_policy::{Pack, Recording, ScriptFacts, VoicemailAction};

use super::Finding;
use crate::code::Code;
use crate::document::{Disclosure, Document};
use crate::graph::Graph;
use crate::scalar::Pos;
use crate::wording::Template;

/// Returns what this pack does not permit of a script.
pub(super) fn under(document: &Document, graph: Option<&Graph>, pack: &Pack) -> Vec<Finding> {
    let rules = &pack.call;
    // What the gate reads of a script, so that it and the linter agree.
    let facts = ScriptFacts::read(&serde_json::to_string(document).unwrap_or_default());
    let purpose = document.purpose.pos();
    let mut found = Vec::new();
    let mut error = |code, pos: Pos, message: String, remedy: &str| {
        found.push(Finding::error(code, pos, format!("the pack `{}` {message}", pack.id), remedy));
    };
    if let Some(wanted) = document.tone_of_voice.as_ref().filter(|wanted| ***wanted && !rules.emotion.value) {
        let message = "does not permit listening to the tone of voice".to_owned();
        let remedy = "drop `tone_of_voice`; calls under this pack are made without it";
        error(Code::ForbiddenByPack, wanted.pos(), message, remedy);
    }
    for (disclosure, name) in
        [(Disclosure::Ai, "ai"), (Disclosure::Recording, "recording"), (Disclosure::Identity, "identity")]
    {
        let listed = rules.disclose.value.contains(&same(disclosure));
        let noticed = disclosure == Disclosure::Recording && rules.recording.value > Recording::None;
        if (listed || noticed) && !document.disclose.contains(&disclosure) {
            let message = format!("demands that the opening tells {name}, and `disclose` leaves it out");
            error(Code::PackDisclosure, purpose, message, "add it to `disclose`, and say it in the opening");
        }
    }
    if rules.opt_out.value.key && !facts.opt_out_key {
        let message = "demands a key to opt out by, and scripts understand the spoken word only".to_owned();
        error(Code::PackOptOut, purpose, message, "use another pack, or have its `opt_out` changed");
    }
    let debt = facts.purpose == trunkline_policy::Purpose::DebtReminder;
    if debt && rules.right_party.value && !facts.right_party {
        let message =
            "demands that a debt is named to the right person only, and nothing answers `wrong_party`";
        error(
            Code::PackRightParty,
            purpose,
            message.to_owned(),
            "ask who is speaking before the debt is named, and let a node answer `wrong_party`",
        );
    }
    let voicemail = document.answered_by.as_ref().and_then(|machine| machine.voicemail.as_ref());
    if let Some(text) = voicemail.filter(|_| !rules.voicemail.value.contains(&facts.voicemail)) {
        let (message, remedy) = if facts.voicemail == VoicemailAction::FullText {
            (
                "permits no text with variables on a voicemail",
                "leave the variables out, or hang up on voicemails",
            )
        } else {
            ("permits no text on a voicemail", "drop `voicemail`: the call hangs up then")
        };
        error(Code::PackVoicemail, text.pos(), message.to_owned(), remedy);
    }
    for (pos, text) in spoken(document, graph) {
        let text = text.to_lowercase();
        let phrases = rules.forbidden.value.iter().flat_map(|wording| &wording.phrases);
        for phrase in phrases.filter(|phrase| text.contains(phrase.as_str())) {
            let message = format!("forbids the robot to say `{phrase}`");
            error(Code::PackPhrase, pos, message, "say it without the threat, and never deny being a robot");
        }
    }
    found
}

fn same(disclosure: Disclosure) -> trunkline_policy::Disclosure {
    match disclosure {
        Disclosure::Ai => trunkline_policy::Disclosure::Ai,
        Disclosure::Recording => trunkline_policy::Disclosure::Recording,
        Disclosure::Identity => trunkline_policy::Disclosure::Identity,
    }
}

/// Lists everything that the robot may say, with its place; the nodes only where the script compiles.
fn spoken(document: &Document, graph: Option<&Graph>) -> Vec<(Pos, String)> {
    let nodes = graph.into_iter().flat_map(|graph| &graph.nodes);
    let mut all: Vec<(Pos, String)> =
        nodes.flat_map(|node| node.texts().map(|text: &Template| (node.pos, text.source()))).collect();
    let digressions = document.digressions.iter().filter_map(|one| Some((one.pos(), one.say.as_ref()?)));
    let machines = document.answered_by.iter().flat_map(|machine| [&machine.voicemail, &machine.screener]);
    let others = machines.chain([&document.handoff.say, &document.goodbye_when_lost]).flatten();
    all.extend(digressions.map(|(pos, text)| (pos, text.to_string())));
    all.extend(others.map(|text| (text.pos(), text.to_string())));
    all
}

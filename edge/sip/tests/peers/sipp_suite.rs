//! The suite of scenarios: what carriers and PBXs do, and some that they should not, each played by SIPp.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use trunkline_ports::free_port;
use trunkline_sip::message::Uri;
use trunkline_sip::sdp::Direction;
use trunkline_sip::{
    CallNews, DialogKey, FailureCause, HangupReason, RegisterRequest, Reliability, SessionTimers, SipEvent,
    TransferStep, UaConfig, UserAgent,
};

use crate::scenario::{Body, Scenario};
use crate::shell::{Peer, Shell, answered, ended, failed, hung_up, incoming};
use crate::sipp::{has_sipp, sipp_file};

/// SIPp playing a scenario, with the folder that the scenario is in.
struct Played {
    peer: Peer,
    at: SocketAddr,
    _folder: TempDir,
}

fn play(scenario: &Scenario, more: &[&str]) -> Played {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scenario.xml");
    std::fs::write(&file, scenario.to_xml()).unwrap();
    let port = free_port();
    Played {
        peer: sipp_file(&file, port, more),
        at: SocketAddr::from(([127, 0, 0, 1], port)),
        _folder: folder,
    }
}

/// We call SIPp.
fn calling(scenario: &Scenario, set: impl FnOnce(&mut UaConfig)) -> (Shell, Played, DialogKey) {
    let played = play(scenario, &["-m", "1"]);
    let mut shell = shell_with(Some(played.at), set);
    let call = shell.call(played.at, Duration::from_secs(30));
    (shell, played, call)
}

/// SIPp calls us.
fn called(scenario: &Scenario, set: impl FnOnce(&mut UaConfig)) -> (Shell, Played) {
    let shell = shell_with(None, set);
    let target = shell.local().to_string();
    let played = play(scenario, &[&target, "-m", "1"]);
    (shell, played)
}

fn shell_with(peer: Option<SocketAddr>, set: impl FnOnce(&mut UaConfig)) -> Shell {
    let mut shell = Shell::new(peer, "secret");
    let mut config = shell.config.clone();
    set(&mut config);
    shell.agent = UserAgent::new(config, [6; 32]);
    shell
}

fn as_is(_: &mut UaConfig) {}

fn may_replace(config: &mut UaConfig) {
    config.may_replace = vec!["127.0.0.1".parse().unwrap()];
}

fn direction(event: &SipEvent) -> Option<Direction> {
    if let SipEvent::MediaChanged { media, .. } = event { Some(media.direction) } else { None }
}

fn bye(shell: &mut Shell, call: DialogKey) {
    shell.agent.bye(Instant::now(), call, None).unwrap();
    shell.until(ended);
}

/// A scenario's last steps when we hang up.
fn we_hang_up(scenario: Scenario) -> Scenario {
    scenario.recv("BYE").reply(200, "", Body::None)
}

// --- registration ----------------------------------------------------------------------------------------

const MD5: &str = "WWW-Authenticate: Digest realm=\"pbx\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"";
const SHA256: &str = "WWW-Authenticate: Digest realm=\"pbx\", nonce=\"n1\", algorithm=SHA-256, qop=\"auth\"";

fn register(scenario: &Scenario) -> (Shell, Played) {
    let played = play(scenario, &["-m", "1"]);
    let mut shell = shell_with(None, as_is);
    let request = RegisterRequest {
        aor: Uri::at("1001", played.at),
        registrar: Uri::at("", played.at),
        next_hop: None,
        account: None,
        trunk: 3,
        expires: Duration::from_secs(600),
    };
    shell.agent.register(Instant::now(), request).unwrap();
    (shell, played)
}

fn registered(event: &SipEvent) -> Option<u64> {
    if let SipEvent::Registered { trunk: 3, expires } = event { Some(expires.as_secs()) } else { None }
}

fn register_and_leave(scenario: Scenario) {
    if !has_sipp() {
        return;
    }
    let scenario = scenario.recv_with("REGISTER", "Expires", " *0").reply(200, "", Body::None);
    let (mut shell, mut played) = register(&scenario);
    shell.until(registered);
    shell.agent.unregister(Instant::now());
    shell.until(|event| (*event == SipEvent::Unregistered).then_some(()));
    shell.serve_until_done(&mut played.peer);
}

#[test]
fn a_registrar_that_asks_in_md5_is_answered_and_left() {
    let answer = "username=\"branch\".*algorithm=MD5.*nc=00000001";
    let scenario = Scenario::asked().recv("REGISTER").reply(401, MD5, Body::None);
    register_and_leave(scenario.recv_with("REGISTER", "Authorization", answer).reply(
        200,
        "Expires: 600",
        Body::None,
    ));
}

#[test]
fn a_registrar_that_asks_in_sha_256_gets_a_long_answer() {
    let answer = "response=\"[0-9a-f]{64}\".*algorithm=SHA-256";
    let scenario = Scenario::asked().recv("REGISTER").reply(401, SHA256, Body::None);
    register_and_leave(scenario.recv_with("REGISTER", "Authorization", answer).reply(
        200,
        "Expires: 600",
        Body::None,
    ));
}

#[test]
fn of_two_challenges_the_stronger_is_taken_in_whatever_order_they_stand() {
    for challenges in [format!("{MD5}\n{SHA256}"), format!("{SHA256}\n{MD5}")] {
        let scenario = Scenario::asked().recv("REGISTER").reply(401, &challenges, Body::None);
        let scenario = scenario.recv_with("REGISTER", "Authorization", "algorithm=SHA-256");
        register_and_leave(scenario.reply(200, "Expires: 600", Body::None));
    }
}

#[test]
fn a_stale_nonce_is_replaced_without_a_fuss_and_a_wrong_password_is_not_tried_twice() {
    let stale = MD5.replace("\"n1\"", "\"n2\", stale=true");
    let scenario = Scenario::asked().recv("REGISTER").reply(401, MD5, Body::None);
    let scenario = scenario.recv("REGISTER").reply(401, &stale, Body::None);
    let scenario = scenario.recv_with("REGISTER", "Authorization", "nonce=\"n2\".*nc=00000001");
    register_and_leave(scenario.reply(200, "Expires: 600", Body::None));
    if !has_sipp() {
        return;
    }
    let scenario = Scenario::asked().recv("REGISTER").reply(401, MD5, Body::None);
    let scenario = scenario.recv("REGISTER").reply(401, MD5, Body::None);
    let (mut shell, mut played) = register(&scenario);
    let failure = shell.until(|event| {
        if let SipEvent::RegistrationFailed { trunk: 3, failure, .. } = event {
            Some(failure.clone())
        } else {
            None
        }
    });
    assert_eq!(failure.cause, FailureCause::Unauthorized);
    shell.serve_until_done(&mut played.peer);
}

#[test]
fn a_registrar_that_wants_longer_bindings_gets_them() {
    let scenario = Scenario::asked().recv("REGISTER").reply(423, "Min-Expires: 1200", Body::None);
    let scenario = scenario.recv_with("REGISTER", "Expires", "1200").reply(200, "Expires: 1200", Body::None);
    register_and_leave(scenario);
}

#[test]
fn a_challenge_from_a_proxy_and_one_from_the_trunk_are_both_answered() {
    if !has_sipp() {
        return;
    }
    let proxy = "Proxy-Authenticate: Digest realm=\"edge\", nonce=\"p1\", algorithm=MD5";
    let scenario = Scenario::called().answer(407, proxy, Body::None).recv("ACK").recv_invite_again();
    let scenario = scenario.answer(401, MD5, Body::None).recv("ACK");
    let scenario = scenario.recv_invite_again().answer(200, "", Body::Sdp).recv("ACK");
    let scenario =
        scenario.recv_with("BYE", "Proxy-Authorization", "realm=\"edge\"").reply(200, "", Body::None);
    let (mut shell, mut played, call) = calling(&scenario, as_is);
    shell.until(answered);
    bye(&mut shell, call);
    shell.serve_until_done(&mut played.peer);
}

// --- calls that we make ----------------------------------------------------------------------------------

#[test]
fn a_reliable_progress_is_acknowledged_before_the_answer() {
    if !has_sipp() {
        return;
    }
    let scenario = Scenario::called().answer(183, "Require: 100rel\nRSeq: 77", Body::Sdp);
    let scenario = scenario.recv_with("PRACK", "RAck", "77 1 INVITE").reply(200, "", Body::None);
    let scenario = scenario.answer(180, "Require: 100rel\nRSeq: 78", Body::None);
    let scenario = scenario.recv_with("PRACK", "RAck", "78 1 INVITE").reply(200, "", Body::None);
    let scenario = we_hang_up(scenario.answer(200, "", Body::None).recv_with("ACK", "CSeq", "1 ACK"));
    let (mut shell, mut played, call) = calling(&scenario, as_is);
    let early = shell.until(|event| {
        if let SipEvent::Ringing { code: 183, early, .. } = event { early.clone() } else { None }
    });
    assert_eq!(shell.until(answered), early, "the answer without SDP means what the progress said");
    bye(&mut shell, call);
    shell.serve_until_done(&mut played.peer);
}

#[test]
fn a_copy_of_a_reliable_progress_is_not_acknowledged_twice() {
    if !has_sipp() {
        return;
    }
    let scenario = Scenario::called().answer(183, "Require: 100rel\nRSeq: 9", Body::Sdp);
    let scenario = scenario.recv("PRACK").reply(200, "", Body::None);
    let scenario = scenario.answer(183, "Require: 100rel\nRSeq: 9", Body::Sdp).pause(300);
    let scenario = we_hang_up(scenario.answer(200, "", Body::None).recv("ACK"));
    let (mut shell, mut played, call) = calling(&scenario, as_is);
    shell.until(answered);
    bye(&mut shell, call);
    shell.serve_until_done(&mut played.peer);
}

#[test]
fn where_we_demand_reliable_progress_the_invite_says_so() {
    if !has_sipp() {
        return;
    }
    let scenario = Scenario::asked().recv_with("INVITE", "Require", "100rel");
    let scenario = scenario.reply(420, "Unsupported: 100rel", Body::None).recv("ACK");
    let (mut shell, mut played, _) = calling(&scenario, |config| config.reliable = Reliability::Required);
    assert_eq!(shell.until(failed).sip_code, Some(420));
    shell.serve_until_done(&mut played.peer);
}

#[test]
fn the_callee_may_change_its_media_before_it_answers() {
    if !has_sipp() {
        return;
    }
    let scenario = Scenario::called().answer(183, "Require: 100rel\nRSeq: 1", Body::Sdp);
    let scenario = scenario.recv("PRACK").reply(200, "", Body::None);
    let scenario = scenario.then_request("UPDATE", 1, "", Body::SdpWith("a=sendonly")).recv_code(200);
    let scenario = we_hang_up(scenario.answer(200, "", Body::None).recv("ACK"));
    let (mut shell, mut played, call) = calling(&scenario, as_is);
    assert_eq!(shell.until(direction), Direction::RecvOnly);
    shell.until(answered);
    bye(&mut shell, call);
    shell.serve_until_done(&mut played.peer);
}

#[test]
fn a_session_timer_that_is_too_short_is_raised() {
    if !has_sipp() {
        return;
    }
    let scenario = Scenario::called().answer(422, "Min-SE: 3600", Body::None).recv("ACK");
    let scenario = scenario.recv_with("INVITE", "Session-Expires", "3600");
    let scenario = scenario.reply(486, "", Body::None).recv("ACK");
    let (mut shell, mut played, _) = calling(&scenario, as_is);
    assert_eq!(shell.until(failed).cause, FailureCause::Busy);
    shell.serve_until_done(&mut played.peer);
}

#[test]
fn we_refresh_a_session_in_time_with_update_or_with_an_invite_where_that_is_not_taken() {
    if !has_sipp() {
        return;
    }
    for (allow, method) in [("Allow: INVITE, UPDATE, BYE", "UPDATE"), ("Allow: INVITE, BYE", "INVITE")] {
        let timer = "Session-Expires: 6;refresher=uac\nRequire: timer";
        let scenario = Scenario::called().answer(200, &format!("{timer}\n{allow}"), Body::Sdp).recv("ACK");
        let scenario = scenario.recv_with(method, "Session-Expires", "6;refresher=uac");
        let body = if method == "INVITE" { Body::Sdp } else { Body::None };
        let scenario = scenario.reply(200, timer, body);
        let scenario = if method == "INVITE" { scenario.recv("ACK") } else { scenario };
        let (mut shell, mut played, call) = calling(&we_hang_up(scenario), |config| {
            config.session_timers =
                Some(SessionTimers { shortest: Duration::from_secs(6), ..Default::default() });
        });
        shell.until(answered);
        shell.run_for(Duration::from_millis(3_500));
        bye(&mut shell, call);
        shell.serve_until_done(&mut played.peer);
    }
}

#[test]
fn a_session_that_they_do_not_refresh_is_hung_up() {
    if !has_sipp() {
        return;
    }
    let timer = "Session-Expires: 6;refresher=uas\nRequire: timer";
    let scenario = Scenario::called().answer(200, timer, Body::Sdp).recv("ACK");
    let scenario = scenario.recv_with("BYE", "Reason", "cause=408").reply(200, "", Body::None);
    let (mut shell, mut played, _) = calling(&scenario, as_is);
    shell.until(answered);
    assert!(shell.until(failed).reason.unwrap().contains("not refreshed"));
    shell.serve_until_done(&mut played.peer);
}

#[test]
fn of_two_forks_that_answer_the_first_is_kept_and_the_other_hung_up() {
    if !has_sipp() {
        return;
    }
    let scenario =
        Scenario::called().answer_as("f1", 183, "", Body::Sdp).answer_as("f2", 180, "", Body::None);
    let scenario = scenario.answer_as("f2", 200, "", Body::Sdp).recv_with("ACK", "To", "tag=f2");
    let scenario = scenario.answer_as("f1", 200, "", Body::Sdp).recv_with("ACK", "To", "tag=f1");
    let scenario = scenario.recv_with("BYE", "To", "tag=f1").reply(200, "", Body::None);
    let scenario = scenario.recv_with("BYE", "To", "tag=f2").reply(200, "", Body::None);
    let (mut shell, mut played, call) = calling(&scenario, as_is);
    shell.until(answered);
    shell.run_for(Duration::from_millis(500));
    bye(&mut shell, call);
    shell.serve_until_done(&mut played.peer);
}

#[test]
fn an_answer_that_crosses_our_cancel_is_acknowledged_and_hung_up() {
    if !has_sipp() {
        return;
    }
    let scenario = Scenario::called().answer(180, "", Body::None).recv("CANCEL");
    let scenario = scenario.reply(200, "", Body::None).answer(200, "", Body::Sdp).recv("ACK");
    let (mut shell, mut played, call) = calling(&we_hang_up(scenario), as_is);
    shell.until(|event| matches!(event, SipEvent::Ringing { .. }).then_some(()));
    shell.agent.cancel(Instant::now(), call).unwrap();
    assert_eq!(shell.until(failed).cause, FailureCause::Cancelled);
    shell.serve_until_done(&mut played.peer);
}

#[test]
fn when_both_change_the_media_at_once_ours_comes_second() {
    if !has_sipp() {
        return;
    }
    let scenario = Scenario::called().answer(200, "", Body::Sdp).recv("ACK");
    // The headers of our re-INVITE are kept, because 491 is due after theirs was refused.
    let scenario = scenario.recv_reinvite().then_request("INVITE", 1, "", Body::Sdp).recv_code(491);
    let scenario = scenario.ack_refusal(1).reply_kept(491).recv("ACK");
    let scenario = scenario.recv_with("INVITE", "", "a=sendonly").reply(
        200,
        "Contact: <sip:peer@[local_ip]:[local_port]>",
        Body::SdpWith("a=recvonly"),
    );
    let (mut shell, mut played, call) = calling(&we_hang_up(scenario.recv("ACK")), as_is);
    shell.until(answered);
    shell.agent.hold(Instant::now(), call).unwrap();
    assert_eq!(shell.until(direction), Direction::SendOnly);
    bye(&mut shell, call);
    shell.serve_until_done(&mut played.peer);
}

#[test]
fn we_hold_and_resume_by_invite() {
    if !has_sipp() {
        return;
    }
    let contact = "Contact: <sip:peer@[local_ip]:[local_port]>";
    let scenario = Scenario::called().answer(200, "", Body::Sdp).recv("ACK");
    let scenario =
        scenario.recv_with("INVITE", "", "a=sendonly").reply(200, contact, Body::SdpWith("a=recvonly"));
    let scenario = scenario.recv("ACK").recv_with("INVITE", "", "a=sendrecv").reply(200, contact, Body::Sdp);
    let (mut shell, mut played, call) = calling(&we_hang_up(scenario.recv("ACK")), as_is);
    shell.until(answered);
    shell.agent.hold(Instant::now(), call).unwrap();
    assert_eq!(shell.until(direction), Direction::SendOnly);
    shell.agent.resume(Instant::now(), call).unwrap();
    assert_eq!(shell.until(direction), Direction::SendRecv);
    bye(&mut shell, call);
    shell.serve_until_done(&mut played.peer);
}

#[test]
fn a_refused_hold_leaves_the_call_up() {
    if !has_sipp() {
        return;
    }
    let scenario = Scenario::called().answer(200, "", Body::Sdp).recv("ACK");
    let scenario = scenario.recv("INVITE").reply(488, "", Body::None).recv("ACK");
    let (mut shell, mut played, call) = calling(&we_hang_up(scenario), as_is);
    shell.until(answered);
    shell.agent.hold(Instant::now(), call).unwrap();
    shell.until_news(|news| *news == CallNews::MediaRefused { code: 488 });
    bye(&mut shell, call);
    shell.serve_until_done(&mut played.peer);
}

#[test]
fn a_transfer_is_asked_for_and_followed_to_its_end() {
    if !has_sipp() {
        return;
    }
    let fragment = |line: &'static str| Body::Other("message/sipfrag;version=2.0", line);
    let active = "Event: refer\nSubscription-State: active;expires=60";
    let over = "Event: refer\nSubscription-State: terminated;reason=noresource";
    let scenario = Scenario::called().answer(200, "", Body::Sdp).recv("ACK");
    let scenario = scenario.recv_with("REFER", "Refer-To", "sip:2000@").reply(202, "", Body::None);
    let scenario =
        scenario.then_request("NOTIFY", 1, active, fragment("SIP/2.0 180 Ringing\n")).recv_code(200);
    let scenario = scenario.then_request("NOTIFY", 2, over, fragment("SIP/2.0 200 OK\n")).recv_code(200);
    let (mut shell, mut played, call) = calling(&we_hang_up(scenario), as_is);
    shell.until(answered);
    shell.agent.refer(Instant::now(), call, &Uri::sip("2000", "127.0.0.1").unwrap(), None).unwrap();
    for step in [TransferStep::Accepted, TransferStep::Progress(180), TransferStep::Done(200)] {
        shell.until_news(|news| *news == CallNews::Transfer(step));
    }
    bye(&mut shell, call);
    shell.serve_until_done(&mut played.peer);
}

#[test]
fn a_transfer_that_is_not_done_there_is_told_as_refused() {
    if !has_sipp() {
        return;
    }
    let scenario = Scenario::called().answer(200, "", Body::Sdp).recv("ACK");
    let (mut shell, mut played, call) =
        calling(&we_hang_up(scenario.recv("REFER").reply(405, "", Body::None)), as_is);
    shell.until(answered);
    shell.agent.refer(Instant::now(), call, &Uri::sip("2000", "127.0.0.1").unwrap(), None).unwrap();
    shell.until_news(|news| *news == CallNews::Transfer(TransferStep::Refused(Some(405))));
    bye(&mut shell, call);
    shell.serve_until_done(&mut played.peer);
}

#[test]
fn refusals_are_told_with_the_networks_own_cause() {
    if !has_sipp() {
        return;
    }
    for (code, reason, cause, q850) in [
        (480, "Reason: Q.850;cause=20;text=\"absent\"", FailureCause::Unreachable, Some(20)),
        (404, "Reason: Q.850;cause=1", FailureCause::NotFound, Some(1)),
        (503, "Retry-After: 60", FailureCause::ServerError, None),
        (603, "", FailureCause::Declined, None),
        (302, "Contact: <sip:elsewhere@192.0.2.66>", FailureCause::Protocol, None),
    ] {
        let scenario = Scenario::called().answer(code, reason, Body::None).recv("ACK");
        let (mut shell, mut played, _) = calling(&scenario, as_is);
        let failure = shell.until(failed);
        assert_eq!((failure.cause, failure.sip_code, failure.q850), (cause, Some(code), q850));
        shell.serve_until_done(&mut played.peer);
    }
}

#[test]
fn our_bye_says_why_in_q_850() {
    if !has_sipp() {
        return;
    }
    let scenario = Scenario::called().answer(200, "", Body::Sdp).recv("ACK");
    let scenario = scenario.recv_with("BYE", "Reason", "Q.850;cause=16").reply(200, "", Body::None);
    let (mut shell, mut played, call) = calling(&scenario, as_is);
    shell.until(answered);
    shell.agent.bye(Instant::now(), call, Some(HangupReason::normal())).unwrap();
    shell.until(ended);
    shell.serve_until_done(&mut played.peer);
}

// --- calls to us -----------------------------------------------------------------------------------------

/// The rest of a call to us that was accepted and that the caller ends.
fn they_hang_up(scenario: Scenario) -> Scenario {
    let scenario =
        scenario.maybe_code(100).maybe_code(180).recv_code(200).then_request("ACK", 1, "", Body::None);
    scenario.then_request("BYE", 9, "", Body::None).recv_code(200)
}

fn accept(shell: &mut Shell) -> DialogKey {
    let call = shell.until(incoming);
    let media = shell.media();
    shell.agent.accept(Instant::now(), call, media).unwrap();
    call
}

#[test]
fn a_caller_who_demands_reliable_progress_gets_it() {
    if !has_sipp() {
        return;
    }
    let scenario = Scenario::calling("Require: 100rel", Body::Sdp).maybe_code(100);
    let scenario = scenario.recv_rseq(180).then_request("PRACK", 2, "RAck: [$rseq] 1 INVITE", Body::None);
    let (mut shell, mut played) = called(&they_hang_up(scenario.recv_code(200)), as_is);
    let call = shell.until(incoming);
    shell.agent.ringing(Instant::now(), call, None).unwrap();
    shell.run_for(Duration::from_millis(400));
    let media = shell.media();
    shell.agent.accept(Instant::now(), call, media).unwrap();
    shell.until(hung_up);
    shell.serve_until_done(&mut played.peer);
}

#[test]
fn early_media_to_a_caller_waits_for_its_acknowledgement_and_may_change() {
    if !has_sipp() {
        return;
    }
    let scenario = Scenario::calling("Supported: 100rel", Body::Sdp).maybe_code(100);
    let scenario = scenario.recv_rseq(183).then_request("PRACK", 2, "RAck: [$rseq] 1 INVITE", Body::None);
    let scenario = scenario.recv_code(200).then_request("UPDATE", 3, "", Body::SdpWith("a=sendonly"));
    let (mut shell, mut played) = called(&they_hang_up(scenario.recv_code(200)), as_is);
    let call = shell.until(incoming);
    let media = shell.media();
    shell.agent.ringing(Instant::now(), call, Some(media.clone())).unwrap();
    assert_eq!(shell.until(direction), Direction::RecvOnly);
    shell.agent.accept(Instant::now(), call, media).unwrap();
    shell.until(hung_up);
    shell.serve_until_done(&mut played.peer);
}

#[test]
fn a_callers_timer_that_is_too_short_gets_422_and_the_next_one_is_taken() {
    if !has_sipp() {
        return;
    }
    let scenario = Scenario::calling("Supported: timer\nSession-Expires: 60", Body::Sdp);
    let scenario = scenario.recv_header(422, "Min-SE", "90").ack_refusal(1);
    let (mut shell, mut played) = called(&scenario, as_is);
    shell.serve_until_done(&mut played.peer);
    let scenario = Scenario::calling("Supported: timer\nSession-Expires: 90;refresher=uac", Body::Sdp);
    let scenario = scenario.maybe_code(100).recv_header(200, "Session-Expires", "90;refresher=uac");
    let scenario = scenario.then_request("ACK", 1, "", Body::None);
    let scenario =
        scenario.then_request("UPDATE", 2, "Supported: timer\nSession-Expires: 90;refresher=uac", Body::None);
    let scenario = scenario.recv_header(200, "Session-Expires", "90;refresher=uac");
    let scenario = scenario.then_request("BYE", 3, "", Body::None).recv_code(200);
    let (mut shell, mut played) = called(&scenario, as_is);
    accept(&mut shell);
    shell.until(hung_up);
    shell.serve_until_done(&mut played.peer);
}

#[test]
fn an_invite_without_an_offer_gets_ours_and_its_ack_has_the_answer() {
    if !has_sipp() {
        return;
    }
    let scenario = Scenario::calling("", Body::None).maybe_code(100).recv_code(200);
    let scenario = scenario.then_request("ACK", 1, "", Body::Sdp);
    let (mut shell, mut played) =
        called(&scenario.then_request("BYE", 2, "", Body::None).recv_code(200), as_is);
    accept(&mut shell);
    shell.until(answered);
    shell.until(hung_up);
    shell.serve_until_done(&mut played.peer);
}

#[test]
fn an_invite_that_replaces_a_call_nobody_knows_gets_481() {
    if !has_sipp() {
        return;
    }
    let scenario = Scenario::calling("Replaces: 1@nowhere;to-tag=a;from-tag=b", Body::Sdp).recv_code(481);
    let (mut shell, mut played) = called(&scenario.ack_refusal(1), may_replace);
    shell.serve_until_done(&mut played.peer);
}

#[test]
fn a_caller_moves_its_call_once_and_only_where_it_may() {
    if !has_sipp() {
        return;
    }
    for (may, set) in [(true, may_replace as fn(&mut UaConfig)), (false, as_is)] {
        let scenario = Scenario::calling("", Body::Sdp).maybe_code(100).recv_code(200);
        let scenario = scenario.then_request("ACK", 1, "", Body::None);
        let scenario = scenario.recv("BYE").reply(200, "", Body::None);
        let (mut shell, mut first) = called(&scenario, set);
        let call = accept(&mut shell);
        shell.until(answered);
        let (call_id, to, from) = shell.dialog();
        let replaces = format!("Replaces: {call_id};to-tag={to};from-tag={from}");
        let target = shell.local().to_string();
        if !may {
            let refused = Scenario::calling(&replaces, Body::Sdp).recv_code(403).ack_refusal(1);
            let mut second = play(&refused, &[&target, "-m", "1"]);
            shell.serve_until_done(&mut second.peer);
            bye(&mut shell, call);
            shell.serve_until_done(&mut first.peer);
            continue;
        }
        let mut second = play(&they_hang_up(Scenario::calling(&replaces, Body::Sdp)), &[&target, "-m", "1"]);
        let new = shell.until(|event| {
            if let SipEvent::Incoming { key, replaces, .. } = event {
                (*replaces == Some(call)).then_some(*key)
            } else {
                None
            }
        });
        let media = shell.media();
        shell.agent.accept(Instant::now(), new, media).unwrap();
        shell.until(|event| (*event == SipEvent::Ended { key: call }).then_some(()));
        shell.until(hung_up);
        shell.serve_until_done(&mut first.peer);
        shell.serve_until_done(&mut second.peer);
        let late = Scenario::calling(&replaces, Body::Sdp).recv_code(603).ack_refusal(1);
        let mut third = play(&late, &[&target, "-m", "1"]);
        shell.serve_until_done(&mut third.peer);
    }
}

#[test]
fn what_is_required_and_unknown_gets_420_with_its_name() {
    if !has_sipp() {
        return;
    }
    let scenario = Scenario::calling("Require: teleportation", Body::Sdp);
    let scenario = scenario.recv_header(420, "Unsupported", "teleportation").ack_refusal(1);
    let (mut shell, mut played) = called(&scenario, as_is);
    shell.serve_until_done(&mut played.peer);
}

#[test]
fn nobody_sends_us_elsewhere() {
    if !has_sipp() {
        return;
    }
    let scenario = Scenario::calling("", Body::Sdp).maybe_code(100).recv_code(200);
    let scenario = scenario.then_request("ACK", 1, "", Body::None);
    let scenario =
        scenario.then_request("REFER", 2, "Refer-To: <sip:900900@192.0.2.66>", Body::None).recv_code(603);
    let (mut shell, mut played) =
        called(&scenario.then_request("BYE", 3, "", Body::None).recv_code(200), as_is);
    accept(&mut shell);
    shell.until(hung_up);
    assert_eq!(shell.agent.stats().refused, 1);
    shell.serve_until_done(&mut played.peer);
}

#[test]
fn digits_as_info_are_told() {
    if !has_sipp() {
        return;
    }
    let scenario = Scenario::calling("", Body::Sdp).maybe_code(100).recv_code(200);
    let scenario = scenario.then_request("ACK", 1, "", Body::None);
    let digit = Body::Other("application/dtmf-relay", "Signal=4\nDuration=120\n");
    let scenario = scenario.then_request("INFO", 2, "", digit).recv_code(200);
    let (mut shell, mut played) =
        called(&scenario.then_request("BYE", 3, "", Body::None).recv_code(200), as_is);
    accept(&mut shell);
    let told = shell.until(|event| {
        if let SipEvent::Digit { digit, duration_ms, .. } = event {
            Some((*digit, *duration_ms))
        } else {
            None
        }
    });
    assert_eq!(told, ('4', 120));
    shell.until(hung_up);
    shell.serve_until_done(&mut played.peer);
}

#[test]
fn keys_that_we_press_go_by_info_one_after_another_and_a_refusal_is_told() {
    if !has_sipp() {
        return;
    }
    let scenario = Scenario::called().answer(200, "", Body::Sdp).recv("ACK");
    let scenario = scenario.recv_with("INFO", "", "Signal=5.*Duration=160").reply(200, "", Body::None);
    let scenario = scenario.recv_with("INFO", "Content-Type", "application/dtmf-relay");
    let scenario = we_hang_up(scenario.reply(415, "", Body::None));
    let (mut shell, mut played, call) = calling(&scenario, as_is);
    shell.until(answered);
    for digit in ['5', '#'] {
        shell.agent.send_digit(Instant::now(), call, digit, 160).unwrap();
    }
    for (digit, code) in [('5', Some(200)), ('#', Some(415))] {
        shell.until_news(|news| *news == CallNews::DigitAnswered { digit, code });
    }
    bye(&mut shell, call);
    shell.serve_until_done(&mut played.peer);
}

#[test]
fn a_caller_who_cancels_says_why() {
    if !has_sipp() {
        return;
    }
    let scenario = Scenario::calling("", Body::Sdp).recv_code(100).pause(200);
    let reason = "Reason: SIP;cause=200;text=\"Call completed elsewhere\"";
    let scenario = scenario.cancel(reason).recv_code(200).recv_code(487);
    let (mut shell, mut played) = called(&scenario.ack_refusal(1), as_is);
    shell.until(incoming);
    let failure = shell.until(failed);
    assert_eq!((failure.cause, failure.sip_code), (FailureCause::Cancelled, Some(200)));
    assert_eq!(failure.reason.as_deref(), Some("Call completed elsewhere"));
    shell.serve_until_done(&mut played.peer);
}

#[test]
fn calls_come_about_where_one_packet_in_ten_is_lost() {
    if !has_sipp() {
        return;
    }
    let scenario = they_hang_up(Scenario::calling("", Body::Sdp));
    let mut shell = shell_with(None, as_is);
    let target = shell.local().to_string();
    let mut played = play(&scenario, &[&target, "-m", "20", "-r", "10", "-lost", "10"]);
    let limit = Instant::now() + Duration::from_secs(60);
    let mut over = 0;
    while over < 20 {
        assert!(Instant::now() < limit, "{over} of 20 calls are over");
        shell.turn(Duration::from_millis(20));
        for event in std::mem::take(&mut shell.unread) {
            if let Some(call) = incoming(&event) {
                let media = shell.media();
                shell.agent.accept(Instant::now(), call, media).unwrap();
            }
            over += usize::from(event.ends_call());
        }
    }
    shell.serve_until_done(&mut played.peer);
}

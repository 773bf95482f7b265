//! From figures to verdicts, with limits and what to do. Pure.

use trunkline_sip::FailureCause;

use super::measure::{CallMeasured, EVENT_KEYS, Measured, SOUND_KEYS, Step, Wanted};
use super::sheet::{Row, Verdict};
use super::words::{Text, both, same};

/// Limits: the first is where a pass ends, the second where a failure begins.
const OPTIONS_MS: (u64, u64) = (300, 2_000);
const CERTIFICATE_DAYS: (i64, i64) = (30, 1);
const RING_MS: (u64, u64) = (6_000, 15_000);
/// One way 150 ms is good and 400 ms the most (ITU-T G.114).
const ROUND_TRIP_MS: (f32, f32) = (300.0, 800.0);
const LOSS_PERCENT: (f32, f32) = (1.0, 3.0);
const JITTER_MS: (f32, f32) = (20.0, 50.0);
const MOS: (f32, f32) = (4.0, 3.6);
/// Loss of an echo that nobody minds, and one that everybody does.
const ECHO_DB: (f32, f32) = (30.0, 20.0);
/// An echo service gives back what it gets, through a gateway or two.
const SERVICE_DB: f32 = 20.0;
const LEVEL_DBM0: (f32, f32) = (-35.0, -6.0);
const BYE_MS: u64 = 2_000;

/// Returns the lines of the sheet.
pub(super) fn rows(measured: &Measured, wanted: &Wanted) -> Vec<Row> {
    let mut rows = reach(measured);
    match &measured.call {
        None => rows.push(row(
            "call",
            both("Test call", "试呼"),
            Verdict::NotTested,
            both("no number was given", "未指定号码"),
            both("Give a number: --call NUMBER", "请用 --call 指定号码"),
        )),
        Some(call) => {
            rows.extend(set_up(call));
            if call.failed.is_none() {
                rows.extend(sound(call, wanted));
                rows.extend(figures(call, wanted));
                rows.extend(keys(call, wanted));
                rows.push(bye(call));
            }
        }
    }
    rows
}

fn row(check: &'static str, name: Text, verdict: Verdict, value: Text, advice: Text) -> Row {
    Row { check, name, verdict, value, limit: Text::default(), advice }
}

fn limited(mut row: Row, limit: Text) -> Row {
    row.limit = limit;
    row
}

/// Small is good.
fn below<T: PartialOrd>(value: T, (good, bad): (T, T)) -> Verdict {
    match (value <= good, value > bad) {
        (true, _) => Verdict::Pass,
        (false, true) => Verdict::Fail,
        (false, false) => Verdict::Warn,
    }
}

/// Large is good.
fn above<T: PartialOrd>(value: T, (good, bad): (T, T)) -> Verdict {
    match (value >= good, value < bad) {
        (true, _) => Verdict::Pass,
        (false, true) => Verdict::Fail,
        (false, false) => Verdict::Warn,
    }
}

fn reach(measured: &Measured) -> Vec<Row> {
    let mut rows = Vec::new();
    match &measured.lookup {
        Step::NotTested => {}
        Step::Done(ms) => {
            rows.push(row(
                "name",
                both("Name looked up", "域名解析"),
                Verdict::Pass,
                same(format!("{ms} ms")),
                Text::default(),
            ));
        }
        Step::Failed(why) => rows.push(row(
            "name",
            both("Name looked up", "域名解析"),
            Verdict::Fail,
            same(why),
            both("Check `proxy` and the box's DNS server", "请检查 proxy 和盒子的 DNS 服务器"),
        )),
    }
    match &measured.certificate_days {
        Step::NotTested => {}
        Step::Done(days) => rows.push(limited(
            row(
                "certificate",
                both("TLS certificate", "TLS 证书"),
                above(*days, CERTIFICATE_DAYS),
                both(format!("trusted, good for {days} days"), format!("可信，剩余 {days} 天")),
                both("Ask the carrier to renew it", "请运营商更新证书"),
            ),
            both(format!("{} days", CERTIFICATE_DAYS.0), format!("{} 天", CERTIFICATE_DAYS.0)),
        )),
        Step::Failed(why) => rows.push(row(
            "certificate",
            both("TLS certificate", "TLS 证书"),
            Verdict::Fail,
            same(why),
            both(
                "Check `ca` and `server_name`, the box's clock, and that the port is the one for TLS",
                "请检查 ca、server_name、盒子时钟，以及端口是否为 TLS 端口",
            ),
        )),
    }
    rows.push(options(measured));
    rows.push(registration(measured));
    if measured.keys_in_clear {
        rows.push(row(
            "keys",
            both("Keys of the sound", "语音密钥"),
            Verdict::Warn,
            both("travel in the clear", "以明文传送"),
            both(
                "Use transport = \"tls\" together with encryption",
                "加密通话请同时使用 transport = \"tls\"",
            ),
        ));
    }
    rows
}

fn options(measured: &Measured) -> Row {
    let name = both("Reached by OPTIONS", "可达性（OPTIONS）");
    match &measured.options {
        Step::NotTested => row(
            "options",
            name,
            Verdict::NotTested,
            both("ping is \"off\", or no address", "ping 为 \"off\"，或没有地址"),
            Text::default(),
        ),
        Step::Done((code, ms)) => limited(
            row(
                "options",
                name,
                below(*ms, OPTIONS_MS),
                both(format!("{ms} ms, answered with {code}"), format!("{ms} 毫秒，应答 {code}")),
                both(
                    "The way to the trunk is slow: look at the network first",
                    "到线路的网络较慢，请先检查网络",
                ),
            ),
            same(format!("≤ {} ms", OPTIONS_MS.0)),
        ),
        // Some trunks do not answer OPTIONS and take calls all the same.
        Step::Failed(why) => {
            let alive = matches!(measured.registered, Step::Done(_))
                || measured.call.as_ref().is_some_and(|call| call.first_word_ms.is_some());
            let verdict = if alive { Verdict::Warn } else { Verdict::Fail };
            let advice = if alive {
                both(
                    "The trunk does not answer OPTIONS: set ping = \"off\"",
                    "该线路不应答 OPTIONS，请设置 ping = \"off\"",
                )
            } else {
                both(
                    "Check `proxy`, `transport` and `bind`, the firewall, and that the trunk lets this address in",
                    "请检查 proxy、transport、bind、防火墙，以及线路是否放行本机地址",
                )
            };
            row("options", name, verdict, same(why), advice)
        }
    }
}

fn registration(measured: &Measured) -> Row {
    let name = both("Registration", "注册");
    match &measured.registered {
        Step::NotTested => row(
            "registration",
            name,
            Verdict::NotTested,
            both("the trunk knows us by address", "线路按地址识别，无需注册"),
            Text::default(),
        ),
        Step::Done(ms) => row("registration", name, Verdict::Pass, same(format!("{ms} ms")), Text::default()),
        Step::Failed(why) => row(
            "registration",
            name,
            Verdict::Fail,
            same(why),
            both(
                "Check `user`, `password_file` and `domain` with what the carrier gave",
                "请与运营商提供的资料核对 user、password_file、domain",
            ),
        ),
    }
}

fn set_up(call: &CallMeasured) -> Vec<Row> {
    let name = both("Test call", "试呼");
    if let Some(why) = &call.failed {
        return vec![row("call", name, Verdict::Fail, same(why), what_to_do(call.cause))];
    }
    let told =
        |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{:.1}", ms as f32 / 1_000.0));
    let (rang, answered) = (told(call.rang_ms), told(call.answered_ms));
    let first = call.rang_ms.or(call.answered_ms).unwrap_or(u64::MAX);
    let taken = call.taken.join(" ");
    vec![
        limited(
            row(
                "call",
                name,
                below(first, RING_MS),
                both(
                    format!("rang after {rang} s, answered after {answered} s"),
                    format!("{rang} 秒后振铃，{answered} 秒后应答"),
                ),
                both("Calls are set up slowly: ask the carrier", "接续较慢，请咨询运营商"),
            ),
            both(format!("rings within {} s", RING_MS.0 / 1_000), format!("{} 秒内振铃", RING_MS.0 / 1_000)),
        ),
        row(
            "codec",
            both("Codec", "编码"),
            Verdict::Pass,
            both(
                format!("{}; the trunk takes {taken} of {}", call.codec, call.offered.join(" ")),
                format!("{}；提供 {}，线路接受 {taken}", call.codec, call.offered.join(" ")),
            ),
            Text::default(),
        ),
        row(
            "encryption",
            both("Encryption of sound", "语音加密"),
            Verdict::Pass,
            if call.encrypted { both("SRTP", "SRTP 加密") } else { both("none", "无") },
            Text::default(),
        ),
    ]
}

fn what_to_do(cause: Option<FailureCause>) -> Text {
    match cause {
        Some(FailureCause::Busy | FailureCause::NoAnswer | FailureCause::Declined) => {
            both("The line works; take the call, or call another number", "线路正常，请接听，或换一个号码")
        }
        Some(FailureCause::NotFound) => both(
            "Check the number, and with which prefix the trunk wants it",
            "请检查号码及线路要求的号码格式、前缀",
        ),
        Some(FailureCause::Unauthorized) => {
            both("Check `user` and `password_file`", "请检查 user 和 password_file")
        }
        Some(FailureCause::Forbidden) => both(
            "Ask the carrier: this caller, this number or this address is not let through; check `caller_id`",
            "请咨询运营商：主叫、被叫或地址未放行；并检查 caller_id",
        ),
        Some(FailureCause::NotAcceptable) => both(
            "No codec or no encryption in common: try --find-profile, check `codecs` and `encryption`",
            "编码或加密不匹配：请用 --find-profile 试，并检查 codecs、encryption",
        ),
        Some(FailureCause::Unreachable) => both(
            "Nobody answers there: check `proxy`, `transport` and the firewall",
            "对端无应答：请检查 proxy、transport 和防火墙",
        ),
        Some(FailureCause::ServerError) => {
            both("The trunk has trouble of its own: ask the carrier", "线路侧故障，请咨询运营商")
        }
        Some(FailureCause::Cancelled | FailureCause::Protocol) | None => both(
            "Look at it with --ladder, or --pcap and Wireshark",
            "请用 --ladder，或 --pcap 加 Wireshark 查看信令",
        ),
    }
}

fn sound(call: &CallMeasured, wanted: &Wanted) -> Vec<Row> {
    let media = &call.media;
    let hears = both("Sound to us", "听对方");
    let ports = both(
        "No sound gets in: open the RTP ports of edge.toml in firewall and router, and check `bind`",
        "收不到语音：请在防火墙和路由器放行 edge.toml 中的 RTP 端口，并检查 bind",
    );
    let heard = match (media.received, call.heard_dbm0) {
        (0, _) => {
            row("sound_in", hears, Verdict::Fail, both("no packets: one-way", "没有收到语音包：单通"), ports)
        }
        (packets, None) => row(
            "sound_in",
            hears,
            if wanted.echo { Verdict::Fail } else { Verdict::Warn },
            both(format!("{packets} packets, all silence"), format!("{packets} 个包，全为静音")),
            both(
                "Somebody must speak at the far end; else ask the carrier",
                "请对方说话后再测；仍无声请咨询运营商",
            ),
        ),
        (packets, Some(level)) => row(
            "sound_in",
            hears,
            Verdict::Pass,
            both(
                format!("{packets} packets with sound, {level:.0} dBm0"),
                format!("{packets} 个包，有声音，{level:.0} dBm0"),
            ),
            Text::default(),
        ),
    };
    let mut rows = vec![heard, sent(call, wanted)];
    if let Some(level) = call.heard_dbm0 {
        // An echo service gives back our own sound, which is louder than speech.
        let most = if wanted.echo { 0.0 } else { LEVEL_DBM0.1 };
        let good = (LEVEL_DBM0.0..=most).contains(&level);
        rows.push(limited(
            row(
                "level",
                both("Level heard", "接收电平"),
                if good { Verdict::Pass } else { Verdict::Warn },
                same(format!("{level:.1} dBm0")),
                both(
                    "Recognition suffers: ask the carrier or the PBX for a gain of 0 dB",
                    "影响识别：请运营商或交换机把增益调为 0 dB",
                ),
            ),
            same(format!("{:.0} … {:.0} dBm0", LEVEL_DBM0.0, most)),
        ));
    }
    rows
}

fn sent(call: &CallMeasured, wanted: &Wanted) -> Row {
    let name = both("Sound from us", "对方听我");
    let told = |verdict, value, advice| row("sound_out", name.clone(), verdict, value, advice);
    let one_way = both(
        "What we send does not arrive: check NAT, the firewall and `bind`",
        "发出的语音对方收不到：请检查 NAT、防火墙和 bind",
    );
    let came_back = call.echo_loss_db.is_some_and(|loss| !wanted.echo || loss <= SERVICE_DB);
    match (came_back, call.heard_us, call.media.far_loss) {
        (true, ..) => told(Verdict::Pass, both("it came back", "已返回"), Text::default()),
        (false, Some(true), _) => {
            told(Verdict::Pass, both("the person heard it", "对方已听到"), Text::default())
        }
        (false, Some(false), _) => {
            told(Verdict::Fail, both("the person heard nothing: one-way", "对方没有听到：单通"), one_way)
        }
        (false, None, _) if wanted.echo => {
            told(Verdict::Fail, both("nothing came back: one-way", "没有返回：单通"), one_way)
        }
        (false, None, Some(_)) => told(
            Verdict::Pass,
            both("the far end reports it (RTCP)", "对方报告已收到（RTCP）"),
            Text::default(),
        ),
        (false, None, None) => told(
            Verdict::NotTested,
            both("the far end does not report", "对方不报告"),
            both(
                "Use an echo service with --echo, or somebody who answers with --ask",
                "请用 --echo 呼叫回声服务，或用 --ask 由人应答",
            ),
        ),
    }
}

fn figures(call: &CallMeasured, wanted: &Wanted) -> Vec<Row> {
    let media = &call.media;
    let mut rows = vec![echo(call, wanted)];
    let by_echo = call.echo_round_trip_ms.filter(|_| wanted.echo);
    let slow =
        both("Far away, or a slow network: expect people to talk over the robot", "网络时延大，容易抢话");
    for (check, name, value) in [
        ("round_trip_rtcp", both("Round trip by RTCP", "往返时延（RTCP）"), media.round_trip_ms),
        ("round_trip_echo", both("Round trip by echo", "往返时延（回声）"), by_echo),
    ] {
        let row = match value {
            Some(ms) => row(check, name, below(ms, ROUND_TRIP_MS), same(format!("{ms:.0} ms")), slow.clone()),
            None => row(check, name, Verdict::NotTested, same("-"), Text::default()),
        };
        rows.push(limited(row, same(format!("≤ {:.0} ms", ROUND_TRIP_MS.0))));
    }
    let network = both(
        "The network loses or delays packets: give voice priority (DSCP EF), avoid Wi-Fi, ask the carrier",
        "网络丢包或抖动：请为语音设置优先级（DSCP EF），避免 Wi-Fi，或咨询运营商",
    );
    let expected = media.received.saturating_sub(media.late) + media.lost;
    let lost_in = (expected > 0).then(|| 100.0 * media.lost as f32 / expected as f32);
    let figure = |check,
                  name: Text,
                  value: Option<f32>,
                  unit: &str,
                  digits: usize,
                  verdict: Verdict,
                  limit: String| {
        let row = match value {
            Some(value) => {
                row(check, name, verdict, same(format!("{value:.digits$}{unit}")), network.clone())
            }
            None => row(
                check,
                name,
                Verdict::NotTested,
                both("no report of the far end", "对方不报告"),
                Text::default(),
            ),
        };
        limited(row, same(limit))
    };
    let of = |value: Option<f32>, judge: &dyn Fn(f32) -> Verdict| value.map_or(Verdict::NotTested, judge);
    let loss = |value| below(value, LOSS_PERCENT);
    let jitter = |value| below(value, JITTER_MS);
    let mos = |value| above(value, MOS);
    let lost_out = media.far_loss.map(|loss| loss * 100.0);
    let jitter_in = (media.received > 0).then_some(media.jitter_ms);
    let limits =
        [format!("≤ {:.0} %", LOSS_PERCENT.0), format!("≤ {:.0} ms", JITTER_MS.0), format!("≥ {:.1}", MOS.0)];
    let [loss_limit, jitter_limit, mos_limit] = limits;
    if media.received > 0 {
        rows.push(figure(
            "loss_in",
            both("Loss to us", "接收丢包"),
            lost_in,
            " %",
            1,
            of(lost_in, &loss),
            loss_limit.clone(),
        ));
        rows.push(figure(
            "jitter_in",
            both("Jitter to us", "接收抖动"),
            jitter_in,
            " ms",
            1,
            of(jitter_in, &jitter),
            jitter_limit.clone(),
        ));
        rows.push(figure(
            "mos_in",
            both("MOS to us", "接收 MOS"),
            media.mos_heard,
            "",
            2,
            of(media.mos_heard, &mos),
            mos_limit.clone(),
        ));
    }
    rows.push(figure(
        "loss_out",
        both("Loss from us", "发送丢包"),
        lost_out,
        " %",
        1,
        of(lost_out, &loss),
        loss_limit,
    ));
    rows.push(figure(
        "jitter_out",
        both("Jitter from us", "发送抖动"),
        media.far_jitter_ms,
        " ms",
        1,
        of(media.far_jitter_ms, &jitter),
        jitter_limit,
    ));
    rows.push(figure(
        "mos_out",
        both("MOS from us", "发送 MOS"),
        media.mos_sent,
        "",
        2,
        of(media.mos_sent, &mos),
        mos_limit,
    ));
    rows
}

fn echo(call: &CallMeasured, wanted: &Wanted) -> Row {
    let name = both("Echo", "回声");
    let delay = call.echo_round_trip_ms.unwrap_or(0.0);
    // A rounded -0.3 would read "-0".
    match (call.echo_loss_db.map(|loss| loss.round() + 0.0), wanted.echo) {
        (Some(loss), true) => limited(
            row(
                "echo",
                name,
                if loss <= SERVICE_DB { Verdict::Pass } else { Verdict::Fail },
                both(
                    format!("back after {delay:.0} ms, {loss:.0} dB softer"),
                    format!("{delay:.0} 毫秒后返回，衰减 {loss:.0} dB"),
                ),
                both("That is no echo service, or it is very soft", "对方不是回声服务，或返回声音太弱"),
            ),
            same(format!("≤ {SERVICE_DB:.0} dB")),
        ),
        (None, true) => row(
            "echo",
            name,
            Verdict::Fail,
            both("nothing came back", "没有返回"),
            both(
                "Is the number an echo service? Does sound flow in both directions?",
                "该号码是回声服务吗？双向语音是否正常？",
            ),
        ),
        (Some(loss), false) => limited(
            row(
                "echo",
                name,
                above(loss, ECHO_DB),
                both(
                    format!("{loss:.0} dB of loss, after {delay:.0} ms"),
                    format!("衰减 {loss:.0} dB，时延 {delay:.0} 毫秒"),
                ),
                both(
                    "The robot hears itself: ask for echo cancellation at the gateway. For an echo service say --echo",
                    "机器人会听到自己：请在网关开启回声消除。若为回声服务请加 --echo",
                ),
            ),
            same(format!("≥ {:.0} dB", ECHO_DB.0)),
        ),
        (None, false) if call.media.received == 0 => {
            row("echo", name, Verdict::NotTested, same("-"), Text::default())
        }
        (None, false) => row("echo", name, Verdict::Pass, both("none is heard", "没有听到"), Text::default()),
    }
}

fn keys(call: &CallMeasured, wanted: &Wanted) -> Vec<Row> {
    let to_far = both("Keys from us", "发送按键");
    let to_us = both("Keys to us", "接收按键");
    let in_band = both("Keys as sound", "带内按键音");
    let from = if !call.events_agreed {
        row(
            "keys_out",
            to_far,
            Verdict::Warn,
            both("no telephone events were agreed on", "未协商电话事件（RFC 4733）"),
            both(
                "Keys go as sound then: --find-profile finds whether INFO is better (`keys`)",
                "按键将以带内音发送；可用 --find-profile 检查是否应改用 INFO（keys）",
            ),
        )
    } else if call.events_back {
        row(
            "keys_out",
            to_far,
            Verdict::Pass,
            both(
                format!("{EVENT_KEYS} came back as telephone events"),
                format!("{EVENT_KEYS} 以电话事件返回"),
            ),
            Text::default(),
        )
    } else {
        row(
            "keys_out",
            to_far,
            if wanted.echo { Verdict::Warn } else { Verdict::NotTested },
            both("telephone events are agreed on; none came back", "已协商电话事件，未见返回"),
            both("Only an echo service that returns packets shows it", "只有逐包返回的回声服务才能验证"),
        )
    };
    let asked =
        both("Press the keys slowly; look at the trunk's setting for DTMF", "请慢按；检查线路的 DTMF 设置");
    let to = match (call.pressed_as, wanted.ask) {
        (Some(way), _) => {
            let way = match way {
                "event" => both("as telephone events (RFC 4733)", "电话事件（RFC 4733）"),
                "info" => both("as INFO", "SIP INFO"),
                _ => both("as sound", "带内音"),
            };
            // The box's calls listen for events and INFO.
            let verdict = if call.pressed_as == Some("sound") { Verdict::Warn } else { Verdict::Pass };
            row(
                "keys_in",
                to_us,
                verdict,
                way,
                both(
                    "The box hears events and INFO only: ask the carrier for RFC 4733",
                    "盒子只识别电话事件和 INFO：请运营商开通 RFC 4733",
                ),
            )
        }
        (None, true) => {
            row("keys_in", to_us, Verdict::Fail, both("1 2 3 did not come", "没有收到 1 2 3"), asked)
        }
        (None, false) if call.events_back => row(
            "keys_in",
            to_us,
            Verdict::Pass,
            both("telephone events (RFC 4733)", "电话事件（RFC 4733）"),
            Text::default(),
        ),
        (None, false) => row(
            "keys_in",
            to_us,
            Verdict::NotTested,
            both("nobody was asked", "未请人按键"),
            both("Use --ask with somebody at the telephone", "请用 --ask，由人在话机上按键"),
        ),
    };
    let sound = if call.sound_keys_back {
        row(
            "keys_sound",
            in_band,
            Verdict::Pass,
            both(format!("{SOUND_KEYS} came back"), format!("{SOUND_KEYS} 已返回")),
            Text::default(),
        )
    } else {
        row(
            "keys_sound",
            in_band,
            if wanted.echo { Verdict::Warn } else { Verdict::NotTested },
            both("none came back", "未见返回"),
            both("Only an echo service shows it", "只有回声服务才能验证"),
        )
    };
    vec![from, to, sound]
}

fn bye(call: &CallMeasured) -> Row {
    let name = both("Hanging up", "挂机");
    let look = both("Look at it with --ladder", "请用 --ladder 查看信令");
    match call.bye {
        Some((ms, true)) => limited(
            row(
                "bye",
                name,
                if ms <= BYE_MS { Verdict::Pass } else { Verdict::Warn },
                both(format!("BYE answered after {ms} ms"), format!("BYE 在 {ms} 毫秒后应答")),
                look,
            ),
            same(format!("≤ {BYE_MS} ms")),
        ),
        Some((_, false)) => row(
            "bye",
            name,
            Verdict::Fail,
            both("BYE was not answered with 200", "BYE 未得到 200 应答"),
            look,
        ),
        None => row(
            "bye",
            name,
            if call.hung_up_by_far { Verdict::Warn } else { Verdict::NotTested },
            both("the far end hung up first", "对方先挂机"),
            both("The test was cut short: let the far end wait", "测试被提前结束，请让对方等待"),
        ),
    }
}

#[cfg(test)]
mod tests;

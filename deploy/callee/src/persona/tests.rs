use super::*;

const HEAD: &str = "schema: trunkline/persona/1\nname: Test\nlocale: en-US\n";

fn parse(rest: &str) -> Result<Persona, String> {
    Persona::parse(&format!("{HEAD}{rest}"), Path::new("p/test.yaml")).map_err(|error| error.to_string())
}

#[test]
fn a_full_persona_is_read() {
    let persona = parse(
        "voice: af_nova\nspeed: 1.1\nlevel_dbfs: -25\nnoise: {kind: pink, snr_db: 15}\nanswer_after: 2s\n\
         greeting: [Hello?, Yes?]\nthinking: {min: 0.2s, max: 0.4s}\ncodecs: [PCMU]\n\
         rules:\n  - {hear: [can you make it, /tomorrow|today/], say: [well, {pause: 0.5s}, sure], once: true}\n  \
         - {hear: goodbye, then: hangup}\notherwise: {say: Yes?}\n\
         interrupt: {after: 1.2s, on_turn: 2, say: wait}\nhangup_after: {turns: 8, seconds: 90}\n",
    )
    .unwrap();
    assert_eq!(persona.codecs, [Codec::Pcmu]);
    assert_eq!(persona.voice.noise, Some(Noise { source: NoiseSource::Pink, snr_db: 15.0 }));
    let texts: Vec<String> = persona.utterances.iter().map(Utterance::text).collect();
    assert_eq!(texts, ["Hello?", "Yes?", "well sure", "wait"]);
    assert_eq!(persona.talk.otherwise.as_ref().unwrap().say, Ways(vec![1]), "the same words are kept once");
    assert_eq!(persona.talk.rules[1].reply.then, Then::HangUp);
    assert_eq!(
        (persona.talk.hang_up_after_turn, persona.talk.hang_up_after),
        (Some(8), Span::millis(90_000))
    );
    assert!(persona.talk.needs_ears());
}

#[test]
fn a_persona_that_answers_anything_needs_no_ears() {
    assert!(!parse("rules: [{hear: any, say: okay}]\n").unwrap().talk.needs_ears());
    assert!(!parse("").unwrap().talk.needs_ears());
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (rest, place, part) in [
        ("voice: af_heart\n", "4:8", "robot's voice"),
        ("voice: zf_xiaobei\n", "4:8", "does not speak en-US"),
        ("voice: ../../etc\n", "4:8", "does not speak"),
        ("voce: af_nova\n", "4:1", "voce"),
        ("speed: 9\n", "4:8", "between 0.5 and 2"),
        ("answer_after: soon\n", "4:15", "soon"),
        ("busy: true\nreject: 603\n", "5:9", "exclude each other"),
        ("reject: 200\n", "4:9", "refuses no call"),
        ("noise: {snr_db: 10}\n", "4:8", "`file` or a `kind`"),
        ("noise: {kind: brown, snr_db: 10}\n", "4:15", "brown"),
        ("codecs: [G729]\n", "4:10", "G729"),
        ("codecs: []\n", "4:9", "at least one"),
        ("rules:\n  - {hear: [], say: hi}\n", "5:", "empty"),
        ("rules:\n  - {hear: /(/, say: hi}\n", "5:", "regular expression"),
        ("rules:\n  - {hear: hi, then: dance}\n", "5:22", "dance"),
        ("patience: 50ms\n", "4:11", "200ms"),
        ("hangup_after: {turns: 0}\n", "4:15", "count from 1"),
    ] {
        let error = parse(rest).unwrap_err();
        assert!(
            error.starts_with(&format!("p/test.yaml:{place}")) && error.contains(part),
            "{rest:?} gave {error}"
        );
    }
    let error = Persona::parse("name: x\nlocale: zh-CN\n", Path::new("x.yaml")).unwrap_err().to_string();
    assert!(error.contains("schema"), "{error}");
}

#[test]
fn noise_files_are_looked_for_beside_the_persona() {
    let persona = parse("noise: {file: street.wav, snr_db: 12}\n").unwrap();
    assert_eq!(persona.voice.noise.unwrap().source, NoiseSource::File(PathBuf::from("p/street.wav")));
}

//! The encoder against the original implementation, and against common sense.

use trunkline_nlu::Encoder;

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The first eight values as the model's own C program gives them. It rounds activations to a
/// byte, so the third decimal may differ; the whole vectors had a cosine above 0.9998.
#[test]
fn vectors_are_those_of_the_reference_program() {
    let Some(encoder) = crate::common::encoder() else {
        return;
    };
    let golden: [(&str, [f32; 8]); 3] = [
        (
            "我下周五之前把钱还上",
            [0.06579, -0.00674, 0.02339, -0.04230, 0.07332, -0.06393, -0.01945, 0.05673],
        ),
        (
            "please take me off your calling list",
            [0.05955, -0.03339, -0.01645, -0.07731, 0.04935, -0.02390, -0.00703, 0.05981],
        ),
        (
            "Ｈｅｌｌｏ，  多少钱？ ½ ﷺ 😀 Ünïcode",
            [0.06557, 0.00682, -0.08380, -0.00829, 0.06633, -0.04729, -0.02122, 0.04847],
        ),
    ];
    for (text, expected) in golden {
        let vector = encoder.embed(text);
        assert_eq!(vector.len(), 384);
        assert!((cosine(&vector, &vector) - 1.0).abs() < 1e-5);
        for (value, expected) in vector.iter().zip(expected) {
            assert!((value - expected).abs() < 4e-3, "{text}: {value} for {expected}");
        }
    }
}

#[test]
fn a_paraphrase_is_nearer_than_another_subject_in_and_across_languages() {
    let Some(encoder) = crate::common::encoder() else {
        return;
    };
    for (text, near, far) in [
        ("我明天把钱还上", "我会在明天还款", "你们公司叫什么名字"),
        ("别再给我打电话了", "以后不要再联系我", "下午三点可以"),
        ("take me off your list", "please remove my number", "what is the balance"),
        ("I can pay tomorrow", "I'll make the payment the next day", "are you a robot"),
        ("我想和真人说话", "let me speak to a human", "my payment is late"),
    ] {
        let [text_v, near_v, far_v] = [text, near, far].map(|t| encoder.embed(t));
        assert!(cosine(&text_v, &near_v) > cosine(&text_v, &far_v) + 0.02, "{text}");
    }
}

#[test]
fn a_batch_gives_the_vectors_of_its_texts() {
    let Some(encoder) = crate::common::encoder() else {
        return;
    };
    let texts = ["好", "could you call me back tomorrow afternoon", "", "下周五之前还五百块"];
    let batch = encoder.embed_batch(&texts);
    let parallel = encoder.embed_parallel(&texts, 2);
    for (n, text) in texts.iter().enumerate() {
        let alone = encoder.embed(text);
        let range = n * alone.len()..(n + 1) * alone.len();
        assert!(cosine(&alone, &batch[range.clone()]) > 0.99999, "{text}");
        assert!(cosine(&alone, &parallel[range]) > 0.99999, "{text}");
    }
}

#[test]
fn the_longest_and_the_strangest_texts_are_taken() {
    let Some(encoder) = crate::common::encoder() else {
        return;
    };
    for text in ["", " ", "\u{0}", "<s></s><mask>", "😀\u{200d}\u{fdfa}", &"长".repeat(10_000)] {
        let vector: Vec<f32> = Encoder::embed(&encoder, text);
        assert!(vector.iter().all(|value| value.is_finite()));
    }
}

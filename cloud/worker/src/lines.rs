//! How many new calls the boxes' trunks take now.

use jiff::{SignedDuration, Timestamp};
use trunkline_db::{BoxRow, Db, DbError};

/// Returns how many calls each of these boxes may be given now by the calls per second of its trunks, in their order:
/// none where no trunk takes calls, and any number where nothing is known.
///
/// # Errors
/// [`DbError`].
pub(crate) async fn starts(db: &Db, boxes: &[BoxRow], now: Timestamp) -> Result<Vec<u32>, DbError> {
    let mut starts = vec![u32::MAX; boxes.len()];
    let mut asked = Vec::new();
    for (row, starts) in boxes.iter().zip(&mut starts) {
        let Some(rate) = row.calls_per_second() else { continue };
        let (most, within) = window(rate);
        *starts = most;
        if most > 0 {
            asked.push((&row.id, now.saturating_sub(within).unwrap_or(Timestamp::MIN)));
        }
    }
    let given = db.given_since(&asked).await?;
    let limited = starts.iter_mut().filter(|starts| (1..u32::MAX).contains(*starts));
    for (starts, given) in limited.zip(given) {
        *starts = starts.saturating_sub(given);
    }
    Ok(starts)
}

/// A speed as so many calls within so long: 2.5 a second are three within 1.2 s. No trunk is slower than one call in an
/// hour.
fn window(rate: f64) -> (u32, SignedDuration) {
    if rate <= 0.0 {
        return (0, SignedDuration::ZERO);
    }
    let most = rate.ceil().min(1e6);
    let within = (most / rate).min(3_600.0);
    (most as u32, SignedDuration::from_millis((within * 1e3).round() as i64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use trunkline_db::{Created, NewCall};
    use trunkline_model::{BoxId, CallId};
    use trunkline_wire::{Birth, ScriptRef, TrunkReport};

    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_795_400_000_000 + ms).unwrap()
    }

    fn trunk(up: bool, calls_per_second: Option<f64>) -> TrunkReport {
        TrunkReport { up, calls_per_second, ..TrunkReport::default() }
    }

    async fn born(db: &Db, id: &str, trunks: Vec<TrunkReport>) -> BoxId {
        let id: BoxId = id.parse().unwrap();
        let birth = Birth {
            trunks,
            ..serde_json::from_str(r#"{"online": true, "sess": 1, "channels": 30}"#).unwrap()
        };
        db.box_said(&id, &birth, at(0)).await.unwrap();
        id
    }

    async fn give(db: &Db, n: u128, to: &BoxId, at: Timestamp) {
        let script = ScriptRef { id: "demo".parse().unwrap(), version: "0".repeat(64).parse().unwrap() };
        let call = NewCall {
            id: CallId::from_u128(n),
            callee: "+8613800138000".parse().unwrap(),
            caller_id: None,
            script,
            variables: BTreeMap::new(),
            external_id: None,
            callback_url: None,
            not_before: Timestamp::UNIX_EPOCH,
            not_after: at + SignedDuration::from_secs(60),
            facts: "{}".into(),
            priority: 0,
            campaign: None,
            trace: String::new(),
            idempotency: None,
        };
        assert!(matches!(db.create_call(&call, at).await.unwrap(), Created::New(_)));
        assert!(db.assign(call.id, to, at).await.unwrap());
    }

    #[tokio::test]
    async fn a_box_is_given_as_many_calls_as_its_trunks_take() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("cloud.sqlite")).await.unwrap();
        let two =
            born(&db, "a", vec![trunk(true, Some(1.5)), trunk(true, Some(0.5)), trunk(false, Some(9.0))])
                .await;
        born(&db, "b", vec![trunk(false, Some(5.0)), trunk(false, None)]).await;
        born(&db, "c", vec![trunk(true, Some(5.0)), trunk(true, None)]).await;
        born(&db, "d", vec![]).await;
        let slow = born(&db, "e", vec![trunk(true, Some(0.1))]).await;
        let starts = async |at| super::starts(&db, &db.boxes().await.unwrap(), at).await.unwrap();
        assert_eq!(starts(at(0)).await, [2, 0, u32::MAX, u32::MAX, 1]);
        give(&db, 1, &two, at(0)).await;
        give(&db, 2, &slow, at(0)).await;
        assert_eq!(starts(at(10)).await, [1, 0, u32::MAX, u32::MAX, 0]);
        give(&db, 3, &two, at(500)).await;
        assert_eq!(starts(at(999)).await[0], 0);
        assert_eq!(starts(at(1_000)).await[0], 1, "the first is a second ago");
        assert_eq!(starts(at(9_999)).await[4], 0, "one in ten seconds");
        assert_eq!(starts(at(10_000)).await[4], 1);
    }

    #[test]
    fn a_speed_is_kept_on_average_also_where_it_is_no_whole_number() {
        assert_eq!(window(2.5), (3, SignedDuration::from_millis(1_200)));
        assert_eq!(window(50.0), (50, SignedDuration::from_secs(1)));
        assert_eq!(window(0.05), (1, SignedDuration::from_secs(20)));
        assert_eq!(window(0.0).0, 0);
        assert_eq!(window(-1.0).0, 0);
        assert_eq!(window(f64::MAX).0, 1_000_000);
    }
}

//! What the pacing of campaigns reads: tallies by quarters of an hour, people who are busy, numbers that were shown.

use jiff::{SignedDuration, Timestamp};
use sqlx::{Row, SqliteConnection};
use trunkline_model::{Disposition, E164};
use trunkline_wire::{CallProgress, CallRecord, HANDED_OVER, HANDING_OVER, NOT_HANDED_OVER, TransferRecord};

use crate::store::{count, instant, number};
use crate::{Db, DbError};

const QUARTER_MS: i64 = 15 * 60 * 1_000;
/// Within this long after the callee's greeting somebody speaks to her, or the call was abandoned (16 CFR
/// 310.4(b)(1)(iv)); every policy pack for people has it.
const FIRST_WORD_S: f32 = 2.0;
/// Who hangs up sooner than this did not wait for the person.
const GAVE_UP_MS: u32 = 2_000;

/// What became of a campaign's calls in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CampaignSums {
    /// Calls that reached a telephone.
    pub tried: u64,
    /// Of these, answered by a person, or by whom the box took for one.
    pub answered: u64,
    /// Answered by a machine.
    pub machines: u64,
    /// Answered, and nobody spoke in time, or a person was promised and did not come.
    pub abandoned: u64,
    /// Calls in which a person was promised and waited for.
    pub handovers: u64,
    /// Of these, taken by nobody.
    pub missed: u64,
    /// Of these, taken by a person over the box, so that their end is known.
    pub handled: u64,
    /// From the start of a call to its hand-over, summed, in milliseconds.
    pub until_ms: u64,
    /// From there to its end, where that is known, summed, in milliseconds.
    pub handled_ms: u64,
}

/// Calls of a campaign under way, and people who have one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnderWay {
    /// Nobody has answered yet.
    pub ringing: u32,
    /// The robot talks.
    pub talking: u32,
    /// People who are being rung, talk, or write up.
    pub people: u32,
}

impl Db {
    /// Sums up what became of a campaign's calls that ended since `since`, to the quarter of an hour.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn campaign_sums(&self, campaign: &str, since: Timestamp) -> Result<CampaignSums, DbError> {
        let row = sqlx::query(
            "SELECT TOTAL(tried) AS tried, TOTAL(answered) AS answered, TOTAL(machines) AS machines,
                TOTAL(abandoned) AS abandoned, TOTAL(handovers) AS handovers, TOTAL(missed) AS missed,
                TOTAL(handled) AS handled, TOTAL(until_ms) AS until_ms, TOTAL(handled_ms) AS handled_ms
             FROM campaign_quarters WHERE campaign = ? AND quarter >= ?",
        )
        .bind(campaign)
        .bind(quarter(since))
        .fetch_one(self.reader())
        .await?;
        let sum = |name: &str| row.try_get::<f64, _>(name).map(|sum| sum as u64);
        Ok(CampaignSums {
            tried: sum("tried")?,
            answered: sum("answered")?,
            machines: sum("machines")?,
            abandoned: sum("abandoned")?,
            handovers: sum("handovers")?,
            missed: sum("missed")?,
            handled: sum("handled")?,
            until_ms: sum("until_ms")?,
            handled_ms: sum("handled_ms")?,
        })
    }

    /// Counts the calls of a campaign that are under way and the people who have one: those whose call the network
    /// took from us talk until `talk` after it, and everybody writes up for `wrap`.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn under_way(
        &self,
        campaign: &str,
        (talk, wrap): (SignedDuration, SignedDuration),
        now: Timestamp,
    ) -> Result<UnderWay, DbError> {
        let open = sqlx::query(
            "SELECT TOTAL(status <> 'answered') AS ringing, TOTAL(status = 'answered' AND handover = '') AS talking,
                TOTAL(status = 'answered' AND handover <> '') AS people
             FROM calls WHERE campaign = ? AND ended_at IS NULL AND status <> 'ended' AND lost = 0",
        )
        .bind(campaign)
        .fetch_one(self.reader())
        .await?;
        let before =
            |span: SignedDuration| now.saturating_sub(span).unwrap_or(Timestamp::MIN).as_millisecond();
        let after = sqlx::query(
            "SELECT COUNT(*) AS n FROM calls WHERE campaign = ?1 AND handover <> ''
                AND ((handover = 'joined' AND ended_at > ?2) OR (handover = 'left' AND ended_at > ?3))
                AND ended_at > MIN(?2, ?3)",
        )
        .bind(campaign)
        .bind(before(wrap))
        .bind(before(talk.saturating_add(wrap)))
        .fetch_one(self.reader())
        .await?;
        let counted = |name: &str| open.try_get::<f64, _>(name).map(|n| n as u32);
        Ok(UnderWay {
            ringing: counted("ringing")?,
            talking: counted("talking")?,
            people: counted("people")?.saturating_add(few(after.try_get("n")?)),
        })
    }

    /// Returns how many of the last hand-overs nobody took, counted back from the last one and at most `limit`, and
    /// when the last of them ended. What was before the campaign was last started, or before somebody last said how
    /// many people take its calls, does not count.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn missed_in_a_row(
        &self,
        campaign: &str,
        limit: u32,
    ) -> Result<(u32, Option<Timestamp>), DbError> {
        let rows = sqlx::query(
            "SELECT handover, ended_at FROM calls
             WHERE campaign = ?1 AND handover <> '' AND handover IN ('joined', 'left', 'missed')
                AND ended_at > (SELECT MAX(people_at, updated_at) FROM campaigns WHERE id = ?1)
             ORDER BY ended_at DESC LIMIT ?2",
        )
        .bind(campaign)
        .bind(limit)
        .fetch_all(self.reader())
        .await?;
        let (mut missed, mut last) = (0, None);
        for row in &rows {
            if row.try_get::<String, _>("handover")? != "missed" {
                break;
            }
            missed += 1;
            last = last.max(Some(instant(row.try_get("ended_at")?)?));
        }
        Ok((missed, last))
    }

    /// Returns how many calls of a campaign were begun since `since`.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn begun_since(&self, campaign: &str, since: Timestamp) -> Result<u32, DbError> {
        let row = sqlx::query("SELECT COUNT(*) AS n FROM calls WHERE campaign = ? AND created_at > ?")
            .bind(campaign)
            .bind(since.as_millisecond())
            .fetch_one(self.reader())
            .await?;
        Ok(few(row.try_get("n")?))
    }

    /// Returns when a campaign last began a call.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn last_begun(&self, campaign: &str) -> Result<Option<Timestamp>, DbError> {
        let row = sqlx::query("SELECT MAX(created_at) AS last FROM calls WHERE campaign = ?")
            .bind(campaign)
            .fetch_one(self.reader())
            .await?;
        row.try_get::<Option<i64>, _>("last")?.map(instant).transpose()
    }

    /// Returns the campaigns whose people are this group.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn campaigns_of_people(&self, group: &str) -> Result<Vec<String>, DbError> {
        let rows = sqlx::query(
            "SELECT id FROM campaigns WHERE json_extract(settings, '$.people.group') = ? ORDER BY id",
        )
        .bind(group)
        .fetch_all(self.reader())
        .await?;
        rows.iter().map(|row| Ok(row.try_get("id")?)).collect()
    }

    /// Says how many people take a campaign's calls, and those of the campaigns that share its group, if it has one.
    /// Returns how many campaigns that were.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn set_agents(
        &self,
        (campaign, group): (&str, &str),
        agents: u32,
        now: Timestamp,
    ) -> Result<u64, DbError> {
        let mut tx = self.begin().await?;
        let changed = sqlx::query(
            "UPDATE campaigns SET settings = json_set(settings, '$.people.agents', ?3), people_at = ?4
             WHERE json_type(settings, '$.people') = 'object'
                AND (id = ?1 OR (?2 <> '' AND json_extract(settings, '$.people.group') = ?2))",
        )
        .bind(campaign)
        .bind(group)
        .bind(agents)
        .bind(now.as_millisecond())
        .execute(&mut *tx)
        .await?
        .rows_affected();
        tx.commit().await?;
        Ok(changed)
    }

    /// Returns how many calls were begun with each of these numbers since `since`, and when the last one was. A call
    /// that was over before anybody dialled showed its number to nobody.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn shown_since(
        &self,
        numbers: &[E164],
        since: Timestamp,
    ) -> Result<Vec<(u32, Option<Timestamp>)>, DbError> {
        let mut shown = Vec::with_capacity(numbers.len());
        for number in numbers {
            let row = sqlx::query(
                "SELECT COUNT(*) AS n, MAX(created_at) AS last FROM calls WHERE caller_id = ? AND created_at > ?
                    AND (status <> 'ended' OR (sent_at IS NOT NULL AND disposition <> 'expired'
                        AND NOT (disposition = 'cancelled' AND cause LIKE 'not permitted%')))",
            )
            .bind(number.reveal())
            .bind(since.as_millisecond())
            .fetch_one(self.reader())
            .await?;
            let last: Option<i64> = row.try_get("last")?;
            shown.push((few(row.try_get("n")?), last.map(instant).transpose()?));
        }
        Ok(shown)
    }

    /// Keeps what the last pass decided about a campaign's pace.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn set_pacing(&self, campaign: &str, pacing: &serde_json::Value) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE campaigns SET pacing = ? WHERE id = ?")
            .bind(pacing.to_string())
            .bind(campaign)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Says whether a campaign has contacts and is done with all of them.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn contacts_are_done(&self, campaign: &str) -> Result<bool, DbError> {
        let row = sqlx::query(
            "SELECT EXISTS (SELECT 1 FROM campaign_contacts WHERE campaign = ?1) AND NOT EXISTS
                (SELECT 1 FROM campaign_contacts WHERE campaign = ?1 AND state IN ('ready', 'held', 'calling')) AS done",
        )
        .bind(campaign)
        .fetch_one(self.reader())
        .await?;
        Ok(row.try_get("done")?)
    }

    /// Counts the contacts of a campaign that are being called.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn contacts_called(&self, campaign: &str) -> Result<u32, DbError> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS n FROM campaign_contacts WHERE campaign = ? AND state = 'calling'",
        )
        .bind(campaign)
        .fetch_one(self.reader())
        .await?;
        Ok(few(row.try_get("n")?))
    }
}

fn few(n: i64) -> u32 {
    u32::try_from(n.max(0)).unwrap_or(u32::MAX)
}

fn quarter(at: Timestamp) -> i64 {
    at.as_millisecond().div_euclid(QUARTER_MS)
}

/// Notes how a hand-over gets on, where the box says so.
pub(crate) async fn note_progress(
    conn: &mut SqliteConnection,
    progress: &CallProgress,
    ts: Timestamp,
) -> Result<(), DbError> {
    let handover = match progress.detail.as_str() {
        HANDING_OVER => "trying",
        HANDED_OVER => "joined",
        NOT_HANDED_OVER => "",
        _ => return Ok(()),
    };
    sqlx::query(
        "UPDATE calls SET handover = ?2, handover_at = CASE WHEN ?2 = '' THEN handover_at ELSE COALESCE(handover_at, ?3) END
         WHERE id = ?1 AND status <> 'ended'",
    )
    .bind(progress.call.to_string())
    .bind(handover)
    .bind(ts.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

/// Counts an ended call for its campaign's pacing, and writes down what became of its hand-over.
pub(crate) async fn note_ended(conn: &mut SqliteConnection, record: &CallRecord) -> Result<(), DbError> {
    let handover = handover_of(&record.transfers);
    let machine = record.disposition == Disposition::Machine
        || record.answerer.as_ref().is_some_and(|who| matches!(who.verdict.as_str(), "machine" | "fax"));
    let answered = record.answered.is_some() && !machine;
    let late = answered && record.direction.is_outbound() && is_late(record);
    let taken = record.transfers.iter().rfind(|one| one.fate == "done");
    let begun = taken.map(|one| record.ended.as_millisecond() - i64::from(one.took_ms));
    let row = sqlx::query(
        "UPDATE calls SET handover = ?2, handover_at = CASE WHEN ?2 = '' THEN NULL ELSE COALESCE(handover_at, ?3) END,
            abandoned = ?4
         WHERE id = ?1 RETURNING campaign, handover_at",
    )
    .bind(record.call.to_string())
    .bind(handover)
    .bind(begun)
    .bind(late)
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row else { return Ok(()) };
    let Some(campaign) = row.try_get::<Option<String>, _>("campaign")? else { return Ok(()) };
    let handover_at: Option<i64> = row.try_get("handover_at")?;
    let missed = answered && handover == "missed";
    let promised = answered && matches!(handover, "joined" | "left" | "missed");
    let handled = taken.filter(|_| handover == "joined");
    let until = handover_at.filter(|_| promised).map_or(0, |at| at - record.started.as_millisecond());
    let counts = CampaignSums {
        tried: u64::from(answered || machine || reached(record.disposition)),
        answered: u64::from(answered),
        machines: u64::from(machine),
        abandoned: u64::from(missed || late),
        handovers: u64::from(promised),
        missed: u64::from(missed),
        handled: u64::from(handled.is_some()),
        until_ms: count(until),
        handled_ms: handled.map_or(0, |one| u64::from(one.took_ms)),
    };
    add(conn, &campaign, quarter(record.ended), &counts).await
}

async fn add(
    conn: &mut SqliteConnection,
    campaign: &str,
    quarter: i64,
    counts: &CampaignSums,
) -> Result<(), DbError> {
    if *counts == CampaignSums::default() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO campaign_quarters VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT (campaign, quarter) DO UPDATE SET tried = tried + ?3, answered = answered + ?4,
            machines = machines + ?5, abandoned = abandoned + ?6, handovers = handovers + ?7, missed = missed + ?8,
            handled = handled + ?9, until_ms = until_ms + ?10, handled_ms = handled_ms + ?11",
    )
    .bind(campaign)
    .bind(quarter)
    .bind(number(counts.tried))
    .bind(number(counts.answered))
    .bind(number(counts.machines))
    .bind(number(counts.abandoned))
    .bind(number(counts.handovers))
    .bind(number(counts.missed))
    .bind(number(counts.handled))
    .bind(number(counts.until_ms))
    .bind(number(counts.handled_ms))
    .execute(conn)
    .await?;
    Ok(())
}

/// Says what became of a call's hand-overs, in the word of the column.
fn handover_of(transfers: &[TransferRecord]) -> &'static str {
    if let Some(taken) = transfers.iter().rfind(|one| one.fate == "done") {
        return if taken.how == "bridge" { "joined" } else { "left" };
    }
    let waited = |one: &TransferRecord| match one.fate.as_str() {
        "left" => one.took_ms > GAVE_UP_MS,
        "cancelled" => false,
        _ => true,
    };
    match transfers {
        [] => "",
        some if some.iter().any(waited) => "missed",
        _ => "gave_up",
    }
}

/// Says whether a telephone was reached by a call that nobody answered.
fn reached(disposition: Disposition) -> bool {
    matches!(disposition, Disposition::NoAnswer | Disposition::Busy | Disposition::Declined)
}

/// Says whether the callee was left without a word for too long: since the answer, or since her greeting.
fn is_late(record: &CallRecord) -> bool {
    let words = record.turns.iter().flat_map(|turn| &turn.robot).map(|said| said.start_s);
    let Some(first) = words.min_by(f32::total_cmp) else {
        let talked = record.answered.map(|at| record.ended.duration_since(at).as_secs_f32() > FIRST_WORD_S);
        return talked.unwrap_or(false);
    };
    let greeted = record
        .turns
        .iter()
        .filter_map(|turn| turn.customer.as_ref())
        .map(|customer| customer.end_s)
        .filter(|end| *end < first)
        .fold(0.0, f32::max);
    first - greeted > FIRST_WORD_S
}

#[cfg(test)]
mod tests {
    use trunkline_wire::{CustomerTurn, RobotTurn, TurnRecord};

    use super::*;

    fn transfer(how: &str, fate: &str, took_ms: u32) -> TransferRecord {
        TransferRecord { how: how.into(), fate: fate.into(), took_ms, ..TransferRecord::default() }
    }

    #[test]
    fn a_hand_over_is_what_its_last_try_made_of_it() {
        assert_eq!(handover_of(&[]), "");
        assert_eq!(handover_of(&[transfer("refer", "busy", 900), transfer("refer", "done", 4_000)]), "left");
        assert_eq!(handover_of(&[transfer("bridge", "done", 90_000)]), "joined");
        assert_eq!(handover_of(&[transfer("bridge", "no_answer", 20_000)]), "missed");
        assert_eq!(handover_of(&[transfer("bridge", "left", 8_000)]), "missed", "she waited");
        assert_eq!(handover_of(&[transfer("bridge", "left", 1_000)]), "gave_up");
    }

    #[test]
    fn a_word_is_late_two_seconds_after_the_answer_or_after_the_greeting() {
        let of = |turns: &[(Option<f32>, Option<f32>)]| -> bool {
            let turns = turns.iter().map(|(customer, robot)| TurnRecord {
                customer: customer.map(|end_s| CustomerTurn { end_s, ..CustomerTurn::default() }),
                robot: robot
                    .map(|start_s| RobotTurn { start_s, ..RobotTurn::default() })
                    .into_iter()
                    .collect(),
                ..TurnRecord::default()
            });
            let golden = include_str!("../../../shared/wire/src/golden/call_ended.v1.json");
            let record: CallRecord = serde_json::from_str(golden).unwrap();
            is_late(&CallRecord { turns: turns.collect(), ..record })
        };
        assert!(!of(&[(None, Some(0.4))]));
        assert!(of(&[(None, Some(2.5))]));
        assert!(!of(&[(Some(1.2), Some(2.5))]), "after her greeting");
        assert!(of(&[(Some(5.0), None)]), "nothing was said at all");
    }
}

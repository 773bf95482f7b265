//! The order of SRV records (RFC 2782), given the records: looking them up is for a resolver.

use rand::Rng;

/// One SRV record, its target of whatever kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SrvRecord<T> {
    /// The lower, the earlier.
    pub priority: u16,
    /// How often it comes first among those of its priority, in proportion.
    pub weight: u16,
    /// Where to.
    pub target: T,
}

/// Returns the records in the order to try them: by priority, within one at random in proportion to the weights.
///
/// Those of weight 0 stand first before the draw, so that they have a very small chance each (RFC 2782, "Weight").
pub fn order_srv<T: Clone>(records: &[SrvRecord<T>], rng: &mut impl Rng) -> Vec<SrvRecord<T>> {
    let mut left: Vec<SrvRecord<T>> = records.to_vec();
    left.sort_by_key(|record| (record.priority, record.weight != 0));
    let mut ordered = Vec::with_capacity(left.len());
    while let Some(first) = left.first() {
        let priority = first.priority;
        let same = left.iter().take_while(|record| record.priority == priority).count();
        let sum: u32 = left[..same].iter().map(|record| u32::from(record.weight)).sum();
        let drawn = rng.random_range(0..=sum);
        let mut running = 0;
        let at = left[..same].iter().position(|record| {
            running += u32::from(record.weight);
            running >= drawn
        });
        ordered.push(left.remove(at.unwrap_or(0)));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn record(priority: u16, weight: u16, target: &'static str) -> SrvRecord<&'static str> {
        SrvRecord { priority, weight, target }
    }

    #[test]
    fn priorities_come_in_order_and_weights_in_proportion() {
        let records =
            [record(20, 1, "last"), record(10, 75, "big"), record(10, 25, "small"), record(10, 0, "never")];
        let mut rng = StdRng::seed_from_u64(1);
        let mut first = std::collections::BTreeMap::new();
        for _ in 0..10_000 {
            let order = order_srv(&records, &mut rng);
            assert_eq!(order.len(), 4);
            assert_eq!(order[3].target, "last");
            *first.entry(order[0].target).or_insert(0) += 1;
        }
        assert!((7_200..7_700).contains(&first["big"]), "{first:?}");
        assert!((2_200..2_700).contains(&first["small"]), "{first:?}");
        assert!((1..250).contains(&first["never"]), "{first:?}");
    }

    #[test]
    fn nothing_in_gives_nothing_out() {
        assert!(order_srv::<u8>(&[], &mut StdRng::seed_from_u64(1)).is_empty());
    }
}

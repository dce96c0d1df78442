//! What a reset comes to, partition by partition. Pure.

use std::collections::BTreeMap;

use tidelog_client::TopicPartition;

use super::target::Target;

/// What is known of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) committed: Option<u64>,
    /// The first offset that is still there.
    pub(super) start: u64,
    /// The high watermark.
    pub(super) end: u64,
    /// The first offset at or after the wanted moment, if one was asked for.
    pub(super) by_time: Option<u64>,
}

/// What to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct New {
    pub(super) offset: u64,
    /// Why that is not what was asked for, if it is not.
    pub(super) note: Option<String>,
}

/// What to commit for every partition, or why nothing can be: all or none.
pub(super) fn plan(
    target: Target,
    partitions: &BTreeMap<TopicPartition, Known>,
) -> Result<BTreeMap<TopicPartition, New>, String> {
    let one = |(partition, known): (&TopicPartition, &Known)| {
        let wanted = wanted(target, partition, known)?;
        let bounds = i128::from(known.start)..=i128::from(known.end);
        let offset = wanted.clamp(*bounds.start(), *bounds.end());
        let note = (!bounds.contains(&wanted)).then(|| {
            format!(
                "{partition} has offsets {} to {}: {offset} instead of {wanted}",
                known.start, known.end
            )
        });
        let offset = u64::try_from(offset).unwrap_or(known.end);
        Ok((partition.clone(), New { offset, note }))
    };
    partitions.iter().map(one).collect()
}

fn wanted(target: Target, partition: &TopicPartition, known: &Known) -> Result<i128, String> {
    Ok(match target {
        Target::Earliest => known.start.into(),
        Target::Latest => known.end.into(),
        Target::Offset(offset) => offset.into(),
        Target::Time(_) => known.by_time.unwrap_or(known.end).into(),
        Target::Shift(by) => {
            let committed = known.committed.ok_or_else(|| {
                format!("nothing is committed for {partition}, so that there is nothing to shift: use another flag, or leave it out with --topic")
            })?;
            i128::from(committed) + i128::from(by)
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidelog_client::PartitionIndex;

    use super::*;

    fn one(target: Target, known: Known) -> Result<New, String> {
        let partition = TopicPartition {
            topic: "flights".parse().unwrap(),
            partition: PartitionIndex(3),
        };
        let new = plan(target, &BTreeMap::from([(partition.clone(), known)]))?;
        Ok(new[&partition].clone())
    }

    const KNOWN: Known = Known {
        committed: Some(50),
        start: 10,
        end: 90,
        by_time: Some(33),
    };

    #[test]
    fn each_target_has_its_offset() {
        let offset = |target| one(target, KNOWN).unwrap();
        for (target, expected) in [
            (Target::Earliest, 10),
            (Target::Latest, 90),
            (Target::Offset(42), 42),
            (Target::Time(0), 33),
            (Target::Shift(-7), 43),
            (Target::Shift(40), 90),
        ] {
            assert_eq!(
                offset(target),
                New {
                    offset: expected,
                    note: None
                },
                "{target:?}"
            );
        }
    }

    #[test]
    fn what_lies_outside_of_the_log_is_moved_to_its_nearer_end_and_said() {
        for (target, expected) in [
            (Target::Offset(3), 10),
            (Target::Offset(u64::MAX), 90),
            (Target::Shift(-41), 10),
            (Target::Shift(i64::MIN), 10),
            (Target::Shift(i64::MAX), 90),
        ] {
            let new = one(target, KNOWN).unwrap();
            assert_eq!(new.offset, expected, "{target:?}");
            assert!(new.note.unwrap().contains("flights-3 has offsets 10 to 90"));
        }
    }

    #[test]
    fn what_never_was_committed_cannot_be_shifted() {
        let known = Known {
            committed: None,
            ..KNOWN
        };
        assert!(one(Target::Shift(1), known).unwrap_err().contains("flights-3"));
        assert!(one(Target::Earliest, known).is_ok());
    }

    proptest! {
        #[test]
        fn the_outcome_is_always_in_the_log(
            committed: u64, start in 0_u64..1000, length in 0_u64..1000, shift: i64, to: u64,
        ) {
            let known = Known { committed: Some(committed), start, end: start + length, by_time: None };
            for target in [Target::Earliest, Target::Latest, Target::Offset(to), Target::Time(0), Target::Shift(shift)] {
                let new = one(target, known).unwrap();
                prop_assert!((start..=start + length).contains(&new.offset));
            }
        }
    }
}

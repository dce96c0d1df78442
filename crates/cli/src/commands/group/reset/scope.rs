//! `--topic`: which partitions.

use std::collections::BTreeSet;
use std::str::FromStr;

use tidelog_client::TopicPartition;

use crate::exit::{Exit, Failure};

/// A topic, or some of its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) topic: String,
    /// All of them if empty.
    partitions: BTreeSet<u32>,
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (topic, partitions) = match text.split_once(':') {
            None => (text, BTreeSet::new()),
            Some((topic, list)) => {
                let number = |number: &str| {
                    let parsed = number.parse::<u32>();
                    parsed.map_err(|_| format!("{number:?} is no partition: write TOPIC:0,1,2"))
                };
                (topic, list.split(',').map(number).collect::<Result<_, _>>()?)
            }
        };
        if topic.is_empty() {
            return Err("write TOPIC or TOPIC:0,1,2".to_owned());
        }
        Ok(Self {
            topic: topic.to_owned(),
            partitions,
        })
    }
}

impl Scope {
    /// Those of the topic's partitions that are meant; all that are named must exist.
    pub(super) fn of(&self, all: Vec<TopicPartition>) -> Result<Vec<TopicPartition>, Failure> {
        if self.partitions.is_empty() {
            return Ok(all);
        }
        let known: BTreeSet<u32> = all.iter().map(|partition| partition.partition.0).collect();
        if let Some(missing) = self.partitions.difference(&known).next() {
            let message = format!(
                "topic {} has no partition {missing}: it has {} of them, from 0",
                self.topic,
                known.len()
            );
            return Err(Failure::new(Exit::NotFound, message));
        }
        let meant = |partition: &TopicPartition| self.partitions.contains(&partition.partition.0);
        Ok(all.into_iter().filter(meant).collect())
    }
}

#[cfg(test)]
mod tests {
    use tidelog_client::PartitionIndex;

    use super::*;

    fn all() -> Vec<TopicPartition> {
        let one = |index| TopicPartition {
            topic: "flights".parse().unwrap(),
            partition: PartitionIndex(index),
        };
        (0..3).map(one).collect()
    }

    #[test]
    fn a_scope_is_a_topic_or_some_of_its_partitions() {
        let of = |text: &str| text.parse::<Scope>().unwrap().of(all());
        assert_eq!(of("flights").unwrap(), all());
        assert_eq!(of("flights:2,0").unwrap(), [all()[0].clone(), all()[2].clone()]);
        let missing = of("flights:1,7").unwrap_err();
        assert_eq!(missing.exit, Exit::NotFound);
        assert!(missing.message.contains("no partition 7"), "{}", missing.message);
        for bad in ["", ":1", "flights:", "flights:a", "flights:1,,2", "flights:-1"] {
            assert!(bad.parse::<Scope>().is_err(), "{bad}");
        }
    }
}

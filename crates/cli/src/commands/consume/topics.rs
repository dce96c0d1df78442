//! Which topics are meant: by name, or by a regular expression.

use anyhow::Result;
use clap::Args;
use regex::Regex;
use tidelog_client::{Client, TopicPartition};
use tidelog_types::PartitionIndex;

use crate::args::ConnectFlags;
use crate::exit::{Exit, Failure};
use crate::{tell, waiting};

/// Flags that say what is read.
#[derive(Debug, Args)]
pub(super) struct TopicFlags {
    /// The topics
    #[arg(required_unless_present = "topic_regex")]
    pub(super) topics: Vec<String>,
    /// Also every topic whose whole name matches; in a group those that come later, too, else those
    /// that are there now
    #[arg(long, value_name = "REGEX")]
    pub(super) topic_regex: Option<Regex>,
    /// Only these partitions; repeatable
    #[arg(short, long, value_name = "N", conflicts_with = "group")]
    partition: Vec<u32>,
}

impl TopicFlags {
    /// The partitions that are meant. That the topics exist is found out here.
    pub(super) async fn partitions(
        &self,
        client: &Client,
        connect: &ConnectFlags,
        in_group: bool,
    ) -> Result<Vec<TopicPartition>> {
        let mut topics = self.topics.clone();
        if let Some(regex) = &self.topic_regex {
            let matching = matching(client, connect, regex).await?;
            if !in_group {
                say_which(regex, &matching)?;
            }
            topics.extend(matching);
        }
        topics.sort_unstable();
        topics.dedup();
        let mut all = Vec::new();
        for topic in &topics {
            let there = waiting::for_topic(client, topic, connect.timeout()).await?;
            all.extend(self.chosen(topic, there)?);
        }
        Ok(all)
    }

    fn chosen(&self, topic: &str, there: Vec<TopicPartition>) -> Result<Vec<TopicPartition>> {
        if self.partition.is_empty() {
            return Ok(there);
        }
        let one = |number: &u32| {
            let wanted = PartitionIndex(*number);
            let found = there.iter().find(|partition| partition.partition == wanted);
            let missing = || {
                let text = format!(
                    "topic {topic} has {} partition(s), and none of number {wanted}",
                    there.len()
                );
                Failure::new(Exit::NotFound, text)
            };
            Ok(found.cloned().ok_or_else(missing)?)
        };
        self.partition.iter().map(one).collect()
    }
}

/// Topics whose whole names match, but not the cluster's own.
async fn matching(client: &Client, connect: &ConnectFlags, regex: &Regex) -> Result<Vec<String>> {
    let admin = client.admin().timeout(connect.timeout());
    let listed = waiting::on(
        || "waiting for the list of topics".to_owned(),
        admin.list_topics(false),
    );
    let regex = whole(regex)?;
    let names = listed.await?.into_iter().map(|topic| topic.name);
    Ok(names.filter(|name| regex.is_match(name)).collect())
}

/// The expression as the group's coordinator takes it: it matches a name from end to end.
fn whole(regex: &Regex) -> Result<Regex, regex::Error> {
    let source = regex.as_str();
    // It is right by itself. Where the end of the group is not seen, it ends in a comment, which a
    // line end ends.
    Regex::new(&format!("^(?:{source})$")).or_else(|_| Regex::new(&format!("^(?:{source}\n)$")))
}

fn say_which(regex: &Regex, topics: &[String]) -> Result<()> {
    if topics.is_empty() {
        let text = format!("no topic matches {regex}; `tidelog topic list` shows all");
        return Err(Failure::new(Exit::NotFound, text).into());
    }
    tell!(
        "tidelog: {} topic(s) match now and are read: {}; for those that come later read as a member of a group (-g)",
        topics.len(),
        topics.join(", ")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_matches_a_name_from_end_to_end() {
        let matches = |source: &str, name| whole(&Regex::new(source).unwrap()).unwrap().is_match(name);
        assert!(matches("orders", "orders") && !matches("orders", "orders-old"));
        assert!(matches("a|ab", "ab"), "the longer alternative counts, too");
        assert!(matches(r"orders\..*", "orders.eu") && !matches(r"orders\..*", "my.orders.eu"));
        assert!(matches("(?x) orders # the old )", "orders"));
    }
}

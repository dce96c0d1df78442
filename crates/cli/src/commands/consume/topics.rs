//! Which topics are meant: by name, or by a regular expression.

use std::collections::BTreeSet;

use anyhow::Result;
use clap::Args;
use tidelog_client::{Client, TopicPartition};
use tidelog_group::{AssignorName, Subscription};
use tidelog_types::{PartitionIndex, TopicName};

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
    #[arg(long, value_name = "REGEX", value_parser = topic_regex)]
    pub(super) topic_regex: Option<Subscription>,
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
        if let Some(subscribed) = &self.topic_regex {
            let matching = matching(client, connect, subscribed).await?;
            if !in_group {
                say_which(subscribed, &matching)?;
            } else if matching.is_empty() {
                let regex = subscribed.regex().unwrap_or_default();
                tell!("tidelog: no topic matches {regex} now; `tidelog topic list` shows all");
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
            let missing = || waiting::no_partition(topic, there.len(), *number);
            Ok(found.cloned().ok_or_else(missing)?)
        };
        self.partition.iter().map(one).collect()
    }
}

/// An expression over topics' names, understood and refused as a group's coordinator does.
fn topic_regex(source: &str) -> Result<Subscription, String> {
    let subscribed = Subscription::new(BTreeSet::new(), Some(source.to_owned()), AssignorName::default());
    subscribed.map_err(|error| error.message)
}

/// The topics that a subscription covers now.
async fn matching(client: &Client, connect: &ConnectFlags, subscribed: &Subscription) -> Result<Vec<String>> {
    let admin = client.admin().timeout(connect.timeout());
    let listed = waiting::on(
        || "waiting for the list of topics".to_owned(),
        admin.list_topics(false),
    );
    let names = listed.await?.topics.into_iter().map(|topic| topic.name);
    let covered = |name: &String| {
        let name = name.parse::<TopicName>();
        name.is_ok_and(|name| subscribed.covers(&name))
    };
    Ok(names.filter(covered).collect())
}

fn say_which(subscribed: &Subscription, topics: &[String]) -> Result<()> {
    if topics.is_empty() {
        let regex = subscribed.regex().unwrap_or_default();
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
    fn an_expression_that_a_coordinator_refuses_is_refused_at_once() {
        let refused = topic_regex("X)|(?:Y").unwrap_err();
        assert!(refused.contains("does not compile"), "{refused}");
        let subscribed = topic_regex("(?x) orders # the old )").unwrap();
        assert!(subscribed.covers(&"orders".parse().unwrap()));
        assert!(!subscribed.covers(&"orders-old".parse().unwrap()));
    }
}

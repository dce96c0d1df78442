//! The Admin service: topics and the cluster.

mod tell;

use std::sync::Arc;
use std::time::Duration;

use tidelog_cluster::command::{AlterTopicConfigs, Command, CreateTopic, DeleteTopic};
use tidelog_cluster::image::{ClusterImage, MetadataIndex, TopicImage};
use tidelog_cluster::outcome::{Accepted, Outcome};
use tidelog_metadata::Metadata;
use tidelog_proto::v1;
use tidelog_proto::v1::admin_server::Admin;
use tidelog_types::limits::{MAX_PAGE_SIZE, MAX_TOPICS_PER_REQUEST};
use tidelog_types::{ErrorCode, PartitionError, TopicId, TopicName};
use tokio::time::Instant;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::about::AboutBroker;
use super::leaders::Leaders;
use super::page::Page;
use super::{Listener, deadline, proposal_refused, unknown_topic};
use crate::config::{TopicDefaults, Voter};
use tell::{Held, described, effective_configs, foreign_token, topic_summary, topics_of};

/// How long a change of metadata may take to commit, if its caller waits that long.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Default and longest wait for a new topic's leaders.
const MAX_CREATE_WAIT: Duration = Duration::from_secs(30);
/// While a cluster starts, a topic waits for so many brokers, or all voters if they are fewer,
/// instead of getting fewer replicas.
const STARTING_REPLICATION_FACTOR: u32 = 3;
/// How often a new topic's leaders are asked.
const ASK_LEADERS_INTERVAL: Duration = Duration::from_millis(20);
/// Longest wait for metadata that a reader has seen elsewhere.
const MAX_METADATA_WAIT: Duration = Duration::from_secs(5);

/// The service of one client listener: addresses in its answers are that listener's.
#[derive(Clone)]
pub struct AdminService {
    metadata: Metadata,
    leaders: Leaders,
    listener: Listener,
    settings: AdminSettings,
    about: AboutBroker,
}

/// What the service goes by.
#[derive(Clone)]
pub struct AdminSettings {
    /// What a new topic gets.
    pub defaults: TopicDefaults,
    /// The brokers that vote on metadata.
    pub voters: Arc<Vec<Voter>>,
}

impl AdminService {
    /// For one listener.
    pub fn new(
        metadata: Metadata,
        leaders: Leaders,
        listener: Listener,
        settings: AdminSettings,
        about: AboutBroker,
    ) -> Self {
        Self {
            metadata,
            leaders,
            listener,
            settings,
            about,
        }
    }

    async fn propose(&self, command: Command, within: Duration) -> Result<Outcome, PartitionError> {
        self.metadata
            .propose(command, within)
            .await
            .map_err(proposal_refused)
    }

    async fn create(
        &self,
        request: v1::CreateTopicRequest,
        within: Duration,
    ) -> Result<v1::CreateTopicResponse, PartitionError> {
        let until = Instant::now() + within;
        let name = topic_name(&request.name)?;
        let image = self.metadata.image();
        let replication_factor = match request.replication_factor {
            0 => default_replication_factor(
                image.brokers.len() as u32,
                self.settings.voters.len() as u32,
                self.settings.defaults,
            )?,
            factor => factor,
        };
        let command = CreateTopic {
            name,
            topic_id: TopicId(Uuid::new_v4()),
            partitions: Some(or_default(request.partitions, self.settings.defaults.partitions)),
            replication_factor: Some(replication_factor),
            configs: request.configs.into_iter().collect(),
            placement_start: rand::random(),
            internal: false,
        };
        if request.validate_only {
            return validate_only(&image, command);
        }
        let outcome = self
            .propose(Command::CreateTopic(command), within.min(PROPOSE_TIMEOUT))
            .await?;
        let Accepted::TopicCreated {
            topic_id,
            partitions,
            replication_factor,
        } = outcome.result?
        else {
            return Err(unexpected("CreateTopic"));
        };
        let wait = match request.timeout_ms {
            0 => MAX_CREATE_WAIT,
            ms => Duration::from_millis(ms.into()).min(MAX_CREATE_WAIT),
        };
        let wait = wait.min(until.saturating_duration_since(Instant::now()));
        self.wait_until_served(topic_id, outcome.index, wait).await?;
        Ok(v1::CreateTopicResponse {
            error: None,
            topic_id: topic_id.as_bytes().to_vec().into(),
            partitions,
            replication_factor,
            metadata_index: outcome.index.0,
        })
    }

    /// Waits until every partition has a leader that serves its latest offset.
    async fn wait_until_served(
        &self,
        id: TopicId,
        index: MetadataIndex,
        wait: Duration,
    ) -> Result<(), PartitionError> {
        let deadline = Instant::now() + wait;
        loop {
            let image = self.metadata.image();
            let missing = match image.topic(id) {
                Some(topic) => self
                    .leaders
                    .bounds(topic)
                    .await
                    .iter()
                    .filter(|bounds| bounds.is_none())
                    .count(),
                None if image.index < index => 1,
                // Deleted again meanwhile: there is nothing to wait for.
                None => 0,
            };
            if missing == 0 {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let text = format!(
                    "the topic was created, but after {} ms {missing} of its partitions have no serving leader yet; \
                     its description says which",
                    wait.as_millis()
                );
                return Err(PartitionError::new(ErrorCode::RequestTimedOut, text));
            }
            tokio::time::sleep(ASK_LEADERS_INTERVAL).await;
        }
    }

    async fn delete(&self, name: &str, within: Duration) -> Result<MetadataIndex, PartitionError> {
        let name = topic_name(name)?;
        let image = self.metadata.image();
        let topic = image
            .topic_by_name(&name)
            .ok_or_else(|| unknown_topic(name.as_str()))?;
        let outcome = self
            .propose(Command::DeleteTopic(DeleteTopic { topic_id: topic.id }), within)
            .await?;
        outcome.result?;
        Ok(outcome.index)
    }

    async fn alter_configs(
        &self,
        request: v1::AlterTopicConfigsRequest,
        within: Duration,
    ) -> Result<MetadataIndex, PartitionError> {
        let name = topic_name(&request.name)?;
        let image = self.metadata.image();
        let topic = image
            .topic_by_name(&name)
            .ok_or_else(|| unknown_topic(name.as_str()))?;
        let command = Command::AlterTopicConfigs(AlterTopicConfigs {
            topic_id: topic.id,
            set: request.set.into_iter().collect(),
            remove: request.remove,
        });
        if request.validate_only {
            let (_, outcome) = tidelog_cluster::decide(&image, image.index, &command);
            outcome.result?;
            return Ok(image.index);
        }
        let outcome = self.propose(command, within).await?;
        outcome.result?;
        Ok(outcome.index)
    }

    /// A page of a topic's partitions, and the token of the next. Only the leaders of these are
    /// asked.
    async fn describe_partitions(
        &self,
        topic: &Arc<TopicImage>,
        page: Option<v1::PageRequest>,
    ) -> Result<(Vec<v1::PartitionDescription>, String), PartitionError> {
        let mut page = Page::of(page);
        let first = match page.token() {
            "" => 0,
            token => token.parse::<usize>().map_err(|_| foreign_token())?,
        };
        let entries = topic.partitions.iter().zip(0..).skip(first);
        let mut partitions = Vec::new();
        let more = page.fill(
            &mut partitions,
            entries.map(|(registration, partition)| described(registration, partition)),
        );
        let end = first.saturating_add(partitions.len());
        let bounds = self.leaders.bounds_of(topic, first..end).await;
        for (partition, bounds) in partitions.iter_mut().zip(bounds.into_iter().skip(first)) {
            partition.high_watermark = bounds.map(|bounds| bounds.high_watermark.0);
            partition.log_start_offset = bounds.map(|bounds| bounds.log_start.0);
            partition.size_bytes = bounds.and_then(|bounds| bounds.size_bytes);
        }
        Ok((partitions, if more { end.to_string() } else { String::new() }))
    }

    /// Who shall vote on metadata and has not registered yet.
    fn missing_voters(&self, image: &ClusterImage) -> Vec<u32> {
        let voters = self.settings.voters.iter();
        let missing = voters.filter(|voter| !image.brokers.contains_key(&voter.id));
        missing.map(|voter| voter.id.get()).collect()
    }

    async fn image_at(&self, index: u64) -> Result<Arc<ClusterImage>, PartitionError> {
        let reached = self.metadata.wait_for_index(MetadataIndex(index));
        match tokio::time::timeout(MAX_METADATA_WAIT, reached).await {
            Ok(true) => Ok(self.metadata.image()),
            Ok(false) | Err(_) => {
                let image = self.metadata.image();
                let text = format!(
                    "this broker has read the metadata up to {} only, {index} was asked for; ask again or ask another",
                    image.index
                );
                Err(PartitionError::new(ErrorCode::RequestTimedOut, text))
            }
        }
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn metadata(
        &self,
        request: Request<v1::MetadataRequest>,
    ) -> Result<Response<v1::MetadataResponse>, Status> {
        let request = request.into_inner();
        let image = match self.image_at(request.min_metadata_index).await {
            Ok(image) => image,
            Err(error) => {
                return Ok(Response::new(v1::MetadataResponse {
                    error: Some(error.into()),
                    ..Default::default()
                }));
            }
        };
        if request.topics.len() > MAX_TOPICS_PER_REQUEST {
            let text = format!(
                "{} topics are named in one request; at most {MAX_TOPICS_PER_REQUEST} are taken: ask for all, or in parts",
                request.topics.len()
            );
            let error = PartitionError::new(ErrorCode::InvalidRequest, text);
            return Ok(Response::new(v1::MetadataResponse {
                error: Some(error.into()),
                ..Default::default()
            }));
        }
        let (topics, next_token) = match topics_of(&image, request) {
            Ok(page) => page,
            Err(error) => {
                return Ok(Response::new(v1::MetadataResponse {
                    error: Some(error.into()),
                    ..Default::default()
                }));
            }
        };
        let brokers = image.brokers.values().map(|broker| v1::BrokerNode {
            broker_id: broker.id.get(),
            address: self.listener.address(&image, broker.id),
            alive: !broker.fenced,
        });
        Ok(Response::new(v1::MetadataResponse {
            cluster_id: image
                .cluster_id
                .map(|id| id.as_bytes().to_vec().into())
                .unwrap_or_default(),
            metadata_index: image.index.0,
            brokers: brokers.collect(),
            topics,
            error: None,
            next_token,
        }))
    }

    async fn create_topic(
        &self,
        request: Request<v1::CreateTopicRequest>,
    ) -> Result<Response<v1::CreateTopicResponse>, Status> {
        let within = deadline::within(request.metadata(), MAX_CREATE_WAIT);
        let answer = self.create(request.into_inner(), within).await;
        Ok(Response::new(answer.unwrap_or_else(|error| {
            v1::CreateTopicResponse {
                error: Some(error.into()),
                ..Default::default()
            }
        })))
    }

    async fn delete_topic(
        &self,
        request: Request<v1::DeleteTopicRequest>,
    ) -> Result<Response<v1::DeleteTopicResponse>, Status> {
        let within = deadline::within(request.metadata(), PROPOSE_TIMEOUT);
        Ok(Response::new(
            match self.delete(&request.into_inner().name, within).await {
                Ok(index) => v1::DeleteTopicResponse {
                    error: None,
                    metadata_index: index.0,
                },
                Err(error) => v1::DeleteTopicResponse {
                    error: Some(error.into()),
                    metadata_index: 0,
                },
            },
        ))
    }

    async fn alter_topic_configs(
        &self,
        request: Request<v1::AlterTopicConfigsRequest>,
    ) -> Result<Response<v1::AlterTopicConfigsResponse>, Status> {
        let within = deadline::within(request.metadata(), PROPOSE_TIMEOUT);
        let (error, index) = match self.alter_configs(request.into_inner(), within).await {
            Ok(index) => (None, index),
            Err(error) => (Some(error.into()), MetadataIndex(0)),
        };
        Ok(Response::new(v1::AlterTopicConfigsResponse {
            error,
            metadata_index: index.0,
        }))
    }

    async fn describe_topic(
        &self,
        request: Request<v1::DescribeTopicRequest>,
    ) -> Result<Response<v1::DescribeTopicResponse>, Status> {
        let request = request.into_inner();
        let name = request.name;
        let image = self.metadata.image();
        let found = name
            .parse::<TopicName>()
            .ok()
            .and_then(|name| image.topic_by_name(&name).cloned());
        let Some(topic) = found else {
            return Ok(Response::new(v1::DescribeTopicResponse {
                error: Some(unknown_topic(&name).into()),
                ..Default::default()
            }));
        };
        let (partitions, next_token) = match self.describe_partitions(&topic, request.page).await {
            Ok(described) => described,
            Err(error) => {
                return Ok(Response::new(v1::DescribeTopicResponse {
                    error: Some(error.into()),
                    ..Default::default()
                }));
            }
        };
        Ok(Response::new(v1::DescribeTopicResponse {
            error: None,
            name: topic.name.to_string(),
            topic_id: topic.id.as_bytes().to_vec().into(),
            internal: topic.name.is_internal(),
            configs: topic.configs.overrides().clone().into_iter().collect(),
            effective_configs: effective_configs(&topic),
            answered_by: Some(self.about.standing()),
            partitions,
            next_token,
        }))
    }

    async fn list_topics(
        &self,
        request: Request<v1::ListTopicsRequest>,
    ) -> Result<Response<v1::ListTopicsResponse>, Status> {
        let request = request.into_inner();
        let page = request.page.unwrap_or_default();
        let size = if page.size == 0 {
            MAX_PAGE_SIZE
        } else {
            page.size.min(MAX_PAGE_SIZE)
        } as usize;
        let after = match page.token.as_str() {
            "" => None,
            token => Some(
                token
                    .parse()
                    .map_err(|_| Status::invalid_argument("the page token is not one of ours"))?,
            ),
        };
        let image = self.metadata.image();
        let mut shown = image
            .topics_by_name(after.as_ref())
            .filter(|topic| request.include_internal || !topic.name.is_internal());
        let topics: Vec<_> = shown
            .by_ref()
            .take(size)
            .map(|topic| topic_summary(topic))
            .collect();
        let next_token = match (shown.next(), topics.last()) {
            (Some(_), Some(last)) => last.name.clone(),
            _ => String::new(),
        };
        Ok(Response::new(v1::ListTopicsResponse {
            topics,
            next_token,
            answered_by: Some(self.about.standing()),
        }))
    }

    async fn describe_cluster(
        &self,
        _request: Request<v1::DescribeClusterRequest>,
    ) -> Result<Response<v1::DescribeClusterResponse>, Status> {
        let image = self.metadata.image();
        let counts = super::PartitionCounts::of(&image);
        let leader = self.metadata.leader();
        let held = Held::of(&image);
        let brokers = image.brokers.values().map(|broker| v1::BrokerDescription {
            broker_id: broker.id.get(),
            alive: !broker.fenced,
            address: self.listener.address(&image, broker.id),
            directory_id: broker.directory.as_bytes().to_vec().into(),
            broker_epoch: broker.epoch.0,
            voter: self.settings.voters.iter().any(|voter| voter.id == broker.id),
            leaders: held.leaders(broker.id),
            replicas: held.replicas(broker.id),
        });
        Ok(Response::new(v1::DescribeClusterResponse {
            cluster_id: image
                .cluster_id
                .map(|id| id.as_bytes().to_vec().into())
                .unwrap_or_default(),
            metadata_leader: leader.map_or(0, |leader| leader.broker.get()),
            metadata_term: leader.map_or(0, |leader| leader.term),
            metadata_index: image.index.0,
            brokers: brokers.collect(),
            under_replicated: counts.under_replicated,
            under_min_isr: counts.under_min_isr,
            offline: counts.offline,
            answered_by: Some(self.about.standing()),
            missing_voters: self.missing_voters(&image),
        }))
    }

    async fn describe_broker(
        &self,
        _request: Request<v1::DescribeBrokerRequest>,
    ) -> Result<Response<v1::DescribeBrokerResponse>, Status> {
        Ok(Response::new(self.about.describe()))
    }
}

fn topic_name(name: &str) -> Result<TopicName, PartitionError> {
    let name: TopicName = name
        .parse()
        .map_err(|error| PartitionError::new(ErrorCode::InvalidTopicException, format!("{error}")))?;
    if name.is_internal() {
        let text = format!("{name} belongs to the cluster itself; choose another name");
        return Err(PartitionError::new(ErrorCode::InvalidTopicException, text));
    }
    Ok(name)
}

fn or_default(value: u32, default: u32) -> u32 {
    if value == 0 { default } else { value }
}

/// How many replicas a topic gets whose creator does not say: as many as configured, or as there
/// are brokers.
///
/// Brokers that are dead at this moment count: a topic must not stay with fewer replicas for ever
/// because it was made during an outage. With fewer alive than that, the metadata refuses it and
/// says how many are.
fn default_replication_factor(
    registered: u32,
    voters: u32,
    defaults: TopicDefaults,
) -> Result<u32, PartitionError> {
    let least = STARTING_REPLICATION_FACTOR
        .min(voters)
        .min(defaults.replication_factor);
    if registered < least {
        let text = format!(
            "the cluster is starting: {registered} of its {voters} voters are registered, and a topic gets {least} replicas at \
             least; ask again in a moment, or say how many replicas it shall have"
        );
        return Err(PartitionError::new(ErrorCode::LeaderNotAvailable, text));
    }
    Ok(defaults.replication_factor.min(registered))
}

fn unexpected(command: &str) -> PartitionError {
    let text =
        format!("the metadata log answered {command} with something else; the brokers differ in version");
    PartitionError::new(ErrorCode::UnknownServerError, text)
}

fn validate_only(
    image: &ClusterImage,
    command: CreateTopic,
) -> Result<v1::CreateTopicResponse, PartitionError> {
    let (_, outcome) = tidelog_cluster::decide::decide(image, image.index, &Command::CreateTopic(command));
    let Accepted::TopicCreated {
        partitions,
        replication_factor,
        ..
    } = outcome.result?
    else {
        return Err(unexpected("CreateTopic"));
    };
    Ok(v1::CreateTopicResponse {
        partitions,
        replication_factor,
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factor(registered: u32, voters: u32, configured: u32) -> Result<u32, ErrorCode> {
        let defaults = TopicDefaults {
            partitions: 1,
            replication_factor: configured,
        };
        default_replication_factor(registered, voters, defaults).map_err(|error| error.code)
    }

    #[test]
    fn the_default_replication_factor_counts_registered_brokers_and_waits_for_the_voters() {
        assert_eq!(factor(3, 3, 3), Ok(3));
        assert_eq!(factor(5, 3, 3), Ok(3));
        assert_eq!(factor(5, 3, 5), Ok(5));
        assert_eq!(factor(1, 1, 3), Ok(1));
        assert_eq!(factor(2, 3, 1), Ok(1));
        // The third has not come yet: retriable, and never a topic of two replicas.
        assert_eq!(factor(2, 3, 3), Err(ErrorCode::LeaderNotAvailable));
        assert_eq!(factor(0, 1, 3), Err(ErrorCode::LeaderNotAvailable));
    }
}

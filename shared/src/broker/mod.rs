//! Rings: hints that there is work. Nothing is lost if one never arrives.

mod local;
mod rabbitmq;

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use local::LocalBroker;
pub use rabbitmq::RabbitBroker;

use crate::config::BrokerConfig;
use crate::ids::{JobId, TaskId};
use crate::job::capability::{Pool, bell};

/// "There is work in this queue." The ids are for logs and traces only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    pub pool: Pool,
    /// Capability class of the task.
    pub class: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<TaskId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// A queue of one pool and capability.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QueueKey {
    pub pool: Pool,
    pub capability: String,
}

impl Ring {
    /// The queue this ring belongs on.
    pub fn queue(&self) -> QueueKey {
        QueueKey { pool: self.pool, capability: bell(&self.class).to_owned() }
    }
}

/// Why a ring was not delivered, or a subscription ended.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("broker: {0}")]
    Amqp(#[from] lapin::Error),
    #[error("broker: {0}")]
    Unusable(String),
}

/// Where rings go.
#[async_trait]
pub trait Broker: Send + Sync {
    /// Rings; an error means that some may be lost, which costs latency only.
    async fn ring(&self, rings: &[Ring]) -> Result<(), BrokerError>;

    /// Listens on queues until dropped. Rings held by a dropped subscription go to others.
    async fn subscribe(&self, queues: &[QueueKey]) -> Result<Box<dyn Subscription>, BrokerError>;

    /// `Err` with the reason where the broker cannot be reached.
    async fn check(&self) -> Result<(), BrokerError>;
}

/// A worker with a free slot, listening.
#[async_trait]
pub trait Subscription: Send {
    /// The next ring. An error ends the subscription: make a new one.
    async fn next(&mut self) -> Result<Delivery, BrokerError>;
}

/// A ring to be acknowledged once the claim it led to is done.
pub struct Delivery {
    pub ring: Ring,
    message: Option<Box<lapin::message::Delivery>>,
}

impl Delivery {
    /// Acknowledges, beside the caller's work: a broker that hangs must not keep anybody. Failure is harmless: it rings again.
    pub fn ack(self) {
        let Some(message) = self.message else { return };
        tokio::spawn(async move {
            let acking = message.acker.ack(lapin::options::BasicAckOptions::default());
            match tokio::time::timeout(rabbitmq::PATIENCE, acking).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => tracing::debug!("the channel of a ring is gone; it will be rung again"),
                Ok(Err(error)) => tracing::debug!(%error, "could not acknowledge a ring"),
                Err(_) => tracing::debug!("the broker did not take an acknowledgement in time"),
            }
        });
    }
}

/// No broker: every ring is lost. Workers look by themselves.
pub struct NoBroker;

#[async_trait]
impl Broker for NoBroker {
    async fn ring(&self, _rings: &[Ring]) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn subscribe(&self, _queues: &[QueueKey]) -> Result<Box<dyn Subscription>, BrokerError> {
        Ok(Box::new(Silence))
    }

    async fn check(&self) -> Result<(), BrokerError> {
        Ok(())
    }
}

struct Silence;

#[async_trait]
impl Subscription for Silence {
    async fn next(&mut self) -> Result<Delivery, BrokerError> {
        std::future::pending().await
    }
}

/// The broker of `config`. Does not connect yet: a broker that is down must not keep anybody from starting.
pub fn open(config: &BrokerConfig) -> Arc<dyn Broker> {
    match &config.url {
        Some(url) => Arc::new(RabbitBroker::new(url, &config.prefix, config.quorum)),
        None => Arc::new(NoBroker),
    }
}

/// Rings in the background: whoever made the work does not wait for the broker.
pub fn ring_later(broker: &Arc<dyn Broker>, rings: Vec<Ring>) {
    if rings.is_empty() {
        return;
    }
    let broker = Arc::clone(broker);
    tokio::spawn(async move {
        if let Err(error) = broker.ring(&rings).await {
            tracing::warn!(%error, rings = rings.len(), "a ring was lost; workers will find the work by themselves");
            metrics::counter!("reelmill_rings_lost_total").increment(rings.len() as u64);
        }
    });
}

//! Rings over RabbitMQ.
//!
//! Any error or end of a stream rebuilds connection, channel and consumer: after the broker closes a channel the client's
//! stream yields one error and then hangs.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, SelectAll, StreamExt, TryStreamExt};
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::{Broker, BrokerError, Delivery, QueueKey, Ring, Subscription};

/// A ring older than this is worthless: workers have looked by themselves.
const RING_TTL_MS: i32 = 60_000;
/// Hints beyond this many push out the oldest.
const QUEUE_LENGTH: i32 = 10_000;
/// How long the broker may take for anything. One that is paused or out of memory answers nothing at all.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// After a failure nobody tries to connect for this long: a broker that is down must not slow down those who can do without.
const COOL_DOWN: Duration = Duration::from_secs(1);

/// RabbitMQ behind two connections, made when needed and again when they broke. Rings go out on one and come in on the other:
/// a broker that is short of memory stops reading from connections that publish, and then answers nothing on them.
pub struct RabbitBroker {
    url: String,
    prefix: String,
    quorum: bool,
    outgoing: Mutex<Link>,
    incoming: Mutex<Link>,
}

#[derive(Default)]
struct Link {
    connection: Option<Connection>,
    publisher: Option<Channel>,
    /// Queues known to be there on this connection.
    declared: HashSet<String>,
    failed_at: Option<Instant>,
}

impl RabbitBroker {
    /// A broker at `url`; all queue names begin with `prefix`.
    pub fn new(url: &str, prefix: &str, quorum: bool) -> Self {
        Self {
            url: url.to_owned(),
            prefix: prefix.to_owned(),
            quorum,
            outgoing: Mutex::default(),
            incoming: Mutex::default(),
        }
    }

    fn queue_name(&self, queue: &QueueKey) -> String {
        format!("{}.work.{}.{}", self.prefix, queue.pool, queue.capability)
    }

    /// The publishing channel, made anew where it is gone.
    async fn publisher(&self, link: &mut Link) -> Result<Channel, BrokerError> {
        if let Some(channel) = link.publisher.as_ref().filter(|channel| channel.status().connected()) {
            return Ok(channel.clone());
        }
        let channel = self.channel(link).await?;
        // A confirm tells that the broker has taken the ring; without it a full or dying broker goes unnoticed.
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        link.publisher = Some(channel.clone());
        Ok(channel)
    }

    async fn channel(&self, link: &mut Link) -> Result<Channel, BrokerError> {
        if !link.connection.as_ref().is_some_and(|connection| connection.status().connected()) {
            link.connection = Some(self.connect(link).await?);
            link.publisher = None;
            link.declared.clear();
        }
        let Some(connection) = &link.connection else {
            return Err(BrokerError::Unusable("no connection".into()));
        };
        Ok(connection.create_channel().await?)
    }

    async fn connect(&self, link: &mut Link) -> Result<Connection, BrokerError> {
        if link.failed_at.is_some_and(|at| at.elapsed() < COOL_DOWN) {
            return Err(BrokerError::Unusable("not reachable a moment ago".into()));
        }
        let properties = ConnectionProperties::default().with_connection_name("reelmill".into());
        let connecting = timeout(PATIENCE, Connection::connect(&self.url, properties));
        let result = match connecting.await {
            Ok(result) => result.map_err(BrokerError::from),
            Err(_) => Err(BrokerError::Unusable("connecting took too long".into())),
        };
        link.failed_at = result.is_err().then(Instant::now);
        result
    }

    /// Makes sure a queue is there. On a channel of its own: a mismatch closes the channel, with all its consumers.
    async fn declare(&self, link: &mut Link, name: &str) -> Result<(), BrokerError> {
        if link.declared.contains(name) {
            return Ok(());
        }
        let channel = self.channel(link).await?;
        let mut arguments = FieldTable::default();
        let kind = if self.quorum { "quorum" } else { "classic" };
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(LongString::from(kind)));
        arguments.insert("x-message-ttl".into(), AMQPValue::LongInt(RING_TTL_MS));
        arguments.insert("x-max-length".into(), AMQPValue::LongInt(QUEUE_LENGTH));
        // The newest hints are the useful ones.
        arguments.insert("x-overflow".into(), AMQPValue::LongString(LongString::from("drop-head")));
        // Durable: transient non-exclusive queues are gone from RabbitMQ 4.3.
        channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments).await?;
        link.declared.insert(name.to_owned());
        // Closing is only tidy; the broker drops the channel with the connection anyway.
        let _ = channel.close(200, "declared".into()).await;
        Ok(())
    }

    async fn publish(&self, rings: &[Ring]) -> Result<(), BrokerError> {
        let mut confirms = Vec::with_capacity(rings.len());
        {
            let mut link = self.outgoing.lock().await;
            for ring in rings {
                let name = self.queue_name(&ring.queue());
                self.declare(&mut link, &name).await?;
                let channel = self.publisher(&mut link).await?;
                let body =
                    serde_json::to_vec(ring).map_err(|error| BrokerError::Unusable(error.to_string()))?;
                // Mandatory: a ring for a queue that somebody deleted would be confirmed and dropped.
                let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
                // Transient: a ring is not worth a disk write.
                let properties = BasicProperties::default().with_content_type("application/json".into());
                let confirm = channel
                    .basic_publish("".into(), name.as_str().into(), options, &body, properties)
                    .await?;
                confirms.push((name, confirm));
            }
        }
        for (name, confirm) in confirms {
            match confirm.await? {
                Confirmation::Ack(None) => {}
                Confirmation::NotRequested => {}
                Confirmation::Ack(Some(_)) | Confirmation::Nack(_) => {
                    self.outgoing.lock().await.declared.remove(&name);
                    return Err(BrokerError::Unusable(format!("the queue {name} is gone")));
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Broker for RabbitBroker {
    async fn ring(&self, rings: &[Ring]) -> Result<(), BrokerError> {
        match timeout(PATIENCE, self.publish(rings)).await {
            Ok(result) => result,
            Err(_) => Err(BrokerError::Unusable("no confirmation in time".into())),
        }
    }

    async fn subscribe(&self, queues: &[QueueKey]) -> Result<Box<dyn Subscription>, BrokerError> {
        let mut link = self.incoming.lock().await;
        match timeout(PATIENCE, self.consume(&mut link, queues)).await {
            Ok(Ok(subscription)) => Ok(Box::new(subscription)),
            Ok(Err(error)) => {
                // A queue that somebody deleted is declared again next time.
                link.declared.clear();
                Err(error)
            }
            Err(_) => {
                *link = Link { failed_at: Some(Instant::now()), ..Link::default() };
                Err(BrokerError::Unusable("no answer to a subscription in time".into()))
            }
        }
    }

    async fn check(&self) -> Result<(), BrokerError> {
        let checking = async {
            let mut link = self.outgoing.lock().await;
            self.publisher(&mut link).await.map(|_| ())
        };
        match timeout(PATIENCE, checking).await {
            Ok(result) => result,
            Err(_) => Err(BrokerError::Unusable("no answer in time".into())),
        }
    }
}

impl RabbitBroker {
    async fn consume(&self, link: &mut Link, queues: &[QueueKey]) -> Result<RabbitSubscription, BrokerError> {
        let channel = self.channel(link).await?;
        // One at a time and per consumer: a ring held here is a ring another worker does not hear.
        channel.basic_qos(1, BasicQosOptions::default()).await?;
        let mut consumers = SelectAll::new();
        for queue in queues {
            let name = self.queue_name(queue);
            self.declare(link, &name).await?;
            let options = BasicConsumeOptions::default();
            // An empty tag: the broker makes a unique one.
            let consumer =
                channel.basic_consume(name.into(), "".into(), options, FieldTable::default()).await?;
            // One consumer that ends, because its queue was deleted, ends the subscription: a new one declares it again.
            let ended = stream::once(async { Err(BrokerError::Unusable("a consumer ended".into())) });
            consumers.push(consumer.map_err(BrokerError::from).chain(ended).boxed());
        }
        Ok(RabbitSubscription { channel, consumers })
    }
}

struct RabbitSubscription {
    channel: Channel,
    consumers: SelectAll<BoxStream<'static, Result<lapin::message::Delivery, BrokerError>>>,
}

#[async_trait]
impl Subscription for RabbitSubscription {
    async fn next(&mut self) -> Result<Delivery, BrokerError> {
        loop {
            let delivery = match self.consumers.next().await {
                Some(delivery) => delivery?,
                None => return Err(BrokerError::Unusable("the consumer ended".into())),
            };
            match serde_json::from_slice(&delivery.data) {
                Ok(ring) => {
                    return Ok(Delivery { ring, message: Some(Box::new(delivery)) });
                }
                Err(error) => {
                    tracing::warn!(%error, "a message on the work queue is no ring; dropped");
                    let _ = delivery.acker.ack(lapin::options::BasicAckOptions::default()).await;
                }
            }
        }
    }
}

impl Drop for RabbitSubscription {
    /// Closing the channel gives rings that were delivered but not acknowledged to other workers.
    fn drop(&mut self) {
        let channel = self.channel.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = channel.close(200, "no free slot".into()).await;
            });
        }
    }
}

//! The public admin API, blocking, asked at any node that answers.

use std::{collections::HashMap, fmt, time::Duration};

use anyhow::{Result, anyhow};
use prost_types::FieldMask;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use twinfeed_proto::admin::{
    Connector, CreateConnectorRequest, DeleteConnectorRequest, DrainNodeRequest, Event, FailoverConnectorRequest,
    FailoverConnectorResponse, GetConnectorRequest, GetStatusRequest, GetStatusResponse, PauseConnectorRequest,
    RemoveNodeRequest, RestartConnectorRequest, ResumeConnectorRequest, StopConnectorRequest, StreamEventsRequest,
    TargetState, UndrainNodeRequest, UpdateConnectorRequest, cluster_service_client::ClusterServiceClient,
    connector_service_client::ConnectorServiceClient,
};

/// A client of all nodes.
#[derive(Debug)]
pub struct Admin {
    runtime: Runtime,
    endpoints: Vec<String>,
}

impl Admin {
    /// A client of these `host:port` admin addresses.
    pub fn new(endpoints: Vec<String>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { runtime, endpoints })
    }

    /// From now on asks this address only when no other answers: a node that is cut off knows little, and does not know it.
    pub fn ask_last(&mut self, address: &str) {
        self.endpoints.sort_by_key(|endpoint| endpoint == address);
    }

    /// Asks the first node that answers; `call` may run several times.
    fn ask<T, F>(&self, limit: Duration, call: impl Fn(Channel) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, tonic::Status>>,
    {
        self.ask_of(&self.endpoints, limit, call)
    }

    fn ask_of<T, F>(&self, endpoints: &[String], limit: Duration, call: impl Fn(Channel) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, tonic::Status>>,
    {
        let mut last = anyhow!("no endpoints");
        for address in endpoints {
            let outcome = self.runtime.block_on(async {
                let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
                let channel = endpoint.connect_timeout(Duration::from_millis(300)).connect().await?;
                Ok::<_, anyhow::Error>(tokio::time::timeout(limit, call(channel)).await??)
            });
            match outcome {
                Ok(value) => return Ok(value),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    pub fn status(&self) -> Result<GetStatusResponse> {
        self.ask(Duration::from_secs(3), |channel| async {
            Ok(ClusterServiceClient::new(channel).get_status(GetStatusRequest {}).await?.into_inner())
        })
    }

    pub fn connector(&self, name: &str) -> Result<Connector> {
        self.ask(Duration::from_secs(3), |channel| get_connector(channel, name))
    }

    /// The connector as the node at this address has it.
    pub fn connector_at(&self, address: &str, name: &str) -> Result<Connector> {
        let only = [address.to_owned()];
        self.ask_of(&only, Duration::from_secs(3), |channel| get_connector(channel, name))
    }

    pub fn create(&self, name: &str, config: &[(&str, String)]) -> Result<()> {
        let config: HashMap<String, String> = config.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
        self.ask(Duration::from_secs(10), |channel| async {
            let request = CreateConnectorRequest {
                name: name.to_owned(),
                config: config.clone().into_iter().collect(),
                ..CreateConnectorRequest::default()
            };
            ConnectorServiceClient::new(channel).create_connector(request).await.map(drop)
        })
    }

    /// Makes a connector that never runs, with a configuration of so many bytes.
    pub fn create_stopped(&self, name: &str, bytes: usize) -> Result<()> {
        let config = [
            ("websocket.url", "ws://127.0.0.1:1/".to_owned()),
            ("kafka.topic", name.to_owned()),
            ("websocket.subscription.message", "x".repeat(bytes)),
        ];
        let config: HashMap<String, String> = config.map(|(key, value)| (key.to_owned(), value)).into();
        self.ask(Duration::from_secs(3), |channel| async {
            let mut request = CreateConnectorRequest {
                name: name.to_owned(),
                config: config.clone().into_iter().collect(),
                ..CreateConnectorRequest::default()
            };
            request.set_initial_state(TargetState::Stopped);
            ConnectorServiceClient::new(channel).create_connector(request).await.map(drop)
        })
    }

    /// Changes single keys of a connector.
    pub fn configure(&self, name: &str, keys: &[(&str, String)]) -> Result<()> {
        let config: HashMap<String, String> = keys.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
        let paths = keys.iter().map(|(key, _)| format!("config.{key}")).collect();
        let request = UpdateConnectorRequest {
            name: name.to_owned(),
            config,
            update_mask: Some(FieldMask { paths }),
            ..UpdateConnectorRequest::default()
        };
        self.ask(Duration::from_secs(10), |channel| async {
            ConnectorServiceClient::new(channel).update_connector(request.clone()).await.map(drop)
        })
    }

    pub fn failover(&self, name: &str, to_node: &str) -> Result<FailoverConnectorResponse> {
        self.ask(Duration::from_secs(30), |channel| async {
            let request = FailoverConnectorRequest {
                name: name.to_owned(),
                to_node: to_node.to_owned(),
                ..FailoverConnectorRequest::default()
            };
            Ok(ConnectorServiceClient::new(channel).failover_connector(request).await?.into_inner())
        })
    }

    pub fn restart(&self, name: &str) -> Result<()> {
        self.ask(Duration::from_secs(10), |channel| async {
            let request = RestartConnectorRequest { name: name.to_owned(), ..RestartConnectorRequest::default() };
            ConnectorServiceClient::new(channel).restart_connector(request).await.map(drop)
        })
    }

    pub fn resume(&self, name: &str) -> Result<()> {
        self.ask(Duration::from_secs(10), |channel| async {
            let request = ResumeConnectorRequest { name: name.to_owned(), ..ResumeConnectorRequest::default() };
            ConnectorServiceClient::new(channel).resume_connector(request).await.map(drop)
        })
    }

    pub fn pause(&self, name: &str) -> Result<()> {
        self.ask(Duration::from_secs(10), |channel| async {
            let request = PauseConnectorRequest { name: name.to_owned(), ..PauseConnectorRequest::default() };
            ConnectorServiceClient::new(channel).pause_connector(request).await.map(drop)
        })
    }

    pub fn stop(&self, name: &str) -> Result<()> {
        self.ask(Duration::from_secs(10), |channel| async {
            let request = StopConnectorRequest { name: name.to_owned(), ..StopConnectorRequest::default() };
            ConnectorServiceClient::new(channel).stop_connector(request).await.map(drop)
        })
    }

    pub fn delete(&self, name: &str) -> Result<()> {
        self.ask(Duration::from_secs(10), |channel| async {
            let request = DeleteConnectorRequest { name: name.to_owned(), ..DeleteConnectorRequest::default() };
            ConnectorServiceClient::new(channel).delete_connector(request).await.map(drop)
        })
    }

    /// Removes a node that is gone for good.
    pub fn remove_node(&self, node: &str) -> Result<()> {
        self.ask(Duration::from_secs(30), |channel| async {
            let request = RemoveNodeRequest { node: node.to_owned(), ..RemoveNodeRequest::default() };
            ClusterServiceClient::new(channel).remove_node(request).await.map(drop)
        })
    }

    pub fn drain(&self, node: &str) -> Result<()> {
        self.ask(Duration::from_secs(60), |channel| async {
            let request = DrainNodeRequest { node: node.to_owned(), ..DrainNodeRequest::default() };
            ClusterServiceClient::new(channel).drain_node(request).await.map(drop)
        })
    }

    pub fn undrain(&self, node: &str) -> Result<()> {
        self.ask(Duration::from_secs(10), |channel| async {
            let request = UndrainNodeRequest { node: node.to_owned(), ..UndrainNodeRequest::default() };
            ClusterServiceClient::new(channel).undrain_node(request).await.map(drop)
        })
    }

    /// The cluster's recent events.
    pub fn events(&self) -> Result<Vec<EventLine>> {
        self.ask(Duration::from_secs(5), |channel| async {
            let request = StreamEventsRequest { last: 1_000, no_follow: true, connector: String::new() };
            let mut stream = ClusterServiceClient::new(channel).stream_events(request).await?.into_inner();
            let mut events = Vec::new();
            while let Some(response) = stream.message().await? {
                events.extend(response.event.map(EventLine::from));
            }
            Ok(events)
        })
    }
}

async fn get_connector(channel: Channel, name: &str) -> Result<Connector, tonic::Status> {
    let request = GetConnectorRequest { name: name.to_owned() };
    let response = ConnectorServiceClient::new(channel).get_connector(request).await?.into_inner();
    response.connector.ok_or_else(|| tonic::Status::internal("an answer without its connector"))
}

/// Something that the cluster says has happened.
#[derive(Debug, Clone)]
pub struct EventLine {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    pub kind: String,
    pub node: String,
    pub connector: String,
    pub epoch: u64,
    pub message: String,
}

impl From<Event> for EventLine {
    fn from(event: Event) -> Self {
        let at_ms = event.time.map_or(0, |t| t.seconds as u64 * 1_000 + t.nanos as u64 / 1_000_000);
        let Event { kind, node, connector, epoch, message, .. } = event;
        Self { at_ms, kind, node, connector, epoch, message }
    }
}

impl fmt::Display for EventLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at_ms, kind, node, epoch, message, .. } = self;
        write!(f, "{:.3} {node} {kind} e{epoch} {message}", (at_ms % 86_400_000) as f64 / 1_000.0)
    }
}

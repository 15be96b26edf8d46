//! `twinfeed.admin.v1.ConnectorService`: every request is checked once, here, before anything is proposed.

use std::{collections::HashMap, pin::Pin};

use futures_util::StreamExt;
use prost::Message;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use twinfeed_proto::admin::{self, connector_service_server::ConnectorService};

use super::{
    admin::Admin,
    changes::{self, check_request_id, revision_of},
    comparison,
    condition::{Condition, Scene},
    convert,
    deadline::wait_until,
    paging::{Page, token_after},
    restart::{self, Restart},
    status::{self, Subject},
};
use crate::{
    kafka,
    model::{
        command::{Command, asked},
        connector::{Config, Redundancy, TargetState},
        ids::WriterId,
        spec::{ConnectorSpec, FieldError, Warning},
        spec_keys::MESSAGE_BYTES_MAX,
    },
};

/// A page ends early at this size: clients accept messages of 4 MiB.
const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl ConnectorService for Admin {
    async fn create_connector(
        &self,
        request: Request<admin::CreateConnectorRequest>,
    ) -> Answer<admin::CreateConnectorResponse> {
        let request = request.into_inner();
        let asked = changes::asked_to_create(&request);
        let (connector, warnings) = self.create(request, asked).await?;
        Ok(Response::new(admin::CreateConnectorResponse { connector: Some(connector), warnings }))
    }

    async fn get_connector(&self, request: Request<admin::GetConnectorRequest>) -> Answer<admin::GetConnectorResponse> {
        let scene = self.confirmed_scene().await?;
        let connector = show(&scene, &request.into_inner().name)?;
        Ok(Response::new(admin::GetConnectorResponse { connector: Some(connector) }))
    }

    async fn list_connectors(
        &self,
        request: Request<admin::ListConnectorsRequest>,
    ) -> Answer<admin::ListConnectorsResponse> {
        let request = request.into_inner();
        let page = Page::read(request.page_size, &request.page_token)?;
        let scene = self.confirmed_scene().await?;
        let mut rest = scene.state.connectors().range::<str, _>((page.start(), std::ops::Bound::Unbounded)).peekable();
        let mut connectors = Vec::new();
        let mut bytes = 0;
        while connectors.len() < page.size
            && bytes < PAGE_BYTES_MAX.min(self.limits.message_bytes_max / 2)
            && let Some((_, connector)) = rest.next()
        {
            let shown = convert::connector(&scene, connector);
            bytes += shown.encoded_len();
            connectors.push(shown);
        }
        let last = connectors.last().filter(|_| rest.peek().is_some());
        let next_page_token = last.map(|connector| token_after(&connector.name)).unwrap_or_default();
        Ok(Response::new(admin::ListConnectorsResponse { connectors, next_page_token }))
    }

    async fn update_connector(
        &self,
        request: Request<admin::UpdateConnectorRequest>,
    ) -> Answer<admin::UpdateConnectorResponse> {
        let (connector, warnings) = self.update(request.into_inner()).await?;
        Ok(Response::new(admin::UpdateConnectorResponse { connector: Some(connector), warnings }))
    }

    async fn delete_connector(
        &self,
        request: Request<admin::DeleteConnectorRequest>,
    ) -> Answer<admin::DeleteConnectorResponse> {
        let request = request.into_inner();
        let expected_revision = revision_of(&request.etag)?;
        let subject = Subject::connector(&request.name);
        if request.validate_only {
            check_request_id(&request.request_id)?;
            let scene = self.confirmed_scene().await?;
            let connector = scene.state.connectors().get(&request.name).ok_or_else(|| status::not_found(subject))?;
            check_etag(expected_revision, connector.revision, subject)?;
        } else {
            let command = Command::DeleteConnector { name: request.name.clone(), expected_revision };
            self.change(command, &request.request_id, subject).await?;
        }
        Ok(Response::new(admin::DeleteConnectorResponse {}))
    }

    async fn pause_connector(
        &self,
        request: Request<admin::PauseConnectorRequest>,
    ) -> Answer<admin::PauseConnectorResponse> {
        let request = request.into_inner();
        let connector = Some(self.aim(&request.name, &request.request_id, TargetState::Paused).await?);
        Ok(Response::new(admin::PauseConnectorResponse { connector }))
    }

    async fn resume_connector(
        &self,
        request: Request<admin::ResumeConnectorRequest>,
    ) -> Answer<admin::ResumeConnectorResponse> {
        let request = request.into_inner();
        let scene = self.confirmed_scene().await?;
        let stored = scene.state.connectors().get(&request.name);
        let failed = stored.is_some_and(|connector| {
            connector.target == TargetState::Running
                && Condition::of(&scene, connector).state == admin::ConnectorState::Failed
        });
        if failed {
            // What was meant to run and has failed is resumed by beginning anew.
            check_request_id(&request.request_id)?;
            let command = Command::Restart { name: request.name.clone(), rolls: false };
            let asked = asked(&("resume", &request.name));
            let subject = Subject::connector(&request.name);
            self.change_as((&request.request_id, asked), command, subject).await?;
            let connector = Some(show(&self.scene_after_change().await, &request.name)?);
            return Ok(Response::new(admin::ResumeConnectorResponse { connector }));
        }
        let connector = Some(self.aim(&request.name, &request.request_id, TargetState::Running).await?);
        Ok(Response::new(admin::ResumeConnectorResponse { connector }))
    }

    async fn stop_connector(
        &self,
        request: Request<admin::StopConnectorRequest>,
    ) -> Answer<admin::StopConnectorResponse> {
        let request = request.into_inner();
        let connector = Some(self.aim(&request.name, &request.request_id, TargetState::Stopped).await?);
        Ok(Response::new(admin::StopConnectorResponse { connector }))
    }

    async fn restart_connector(
        &self,
        request: Request<admin::RestartConnectorRequest>,
    ) -> Answer<admin::RestartConnectorResponse> {
        let request = request.into_inner();
        check_request_id(&request.request_id)?;
        let subject = Subject::connector(&request.name);
        let scene = self.confirmed_scene().await?;
        let connector = scene.state.connectors().get(&request.name).ok_or_else(|| status::not_found(subject))?;
        let restart = if request.force { Ok(Restart::AtOnce) } else { restart::judge(&scene, connector) };
        let restart = restart.map_err(|why| {
            let text = format!(
                "{why}: a restart could lose messages; wait until that is over, or do without them: wsctl connector \
                 restart {} --force",
                request.name
            );
            status::precondition("WOULD_LOSE", text)
        })?;
        let command = Command::Restart { name: request.name.clone(), rolls: restart == Restart::Rolling };
        let asked = asked(&("restart", &request.name, request.force));
        self.change_as((&request.request_id, asked), command, subject).await?;
        let connector = Some(show(&self.scene_after_change().await, &request.name)?);
        Ok(Response::new(admin::RestartConnectorResponse { connector }))
    }

    async fn failover_connector(
        &self,
        request: Request<admin::FailoverConnectorRequest>,
    ) -> Answer<admin::FailoverConnectorResponse> {
        let deadline = wait_until(request.metadata());
        self.failover(request.into_inner(), deadline).await.map(Response::new)
    }

    async fn compare_connector(
        &self,
        request: Request<admin::CompareConnectorRequest>,
    ) -> Answer<admin::CompareConnectorResponse> {
        let scene = self.confirmed_scene().await?;
        comparison::compared(&scene, &request.into_inner().name).map(Response::new)
    }

    type WatchConnectorsStream = Pin<Box<dyn Stream<Item = Result<admin::WatchConnectorsResponse, Status>> + Send>>;

    async fn watch_connectors(
        &self,
        _request: Request<admin::WatchConnectorsRequest>,
    ) -> Answer<Self::WatchConnectorsStream> {
        self.confirmed_scene().await?;
        let changes = super::watch::connectors(self.clone()).take_until(self.stop.clone().cancelled_owned());
        Ok(Response::new(Box::pin(changes)))
    }
}

impl Admin {
    /// `asked` stands for the whole request: an update may have to create.
    async fn create(
        &self,
        request: admin::CreateConnectorRequest,
        asked: u64,
    ) -> Result<(admin::Connector, Vec<String>), Status> {
        check_request_id(&request.request_id)?;
        let target = initial_target(request.initial_state)?;
        let name = request.name;
        let config: Config = request.config.into_iter().collect();
        changes::refuse_hidden(&name, &config, &Config::new())?;
        let (_, warnings) = self.checked(&name, &config)?;
        let subject = Subject::connector(&name);
        if request.validate_only {
            let scene = self.confirmed_scene().await?;
            if scene.state.connectors().contains_key(&name) {
                return Err(status::already_exists(subject));
            }
            return Ok((convert::proposed(&name, &config, target), warnings));
        }
        let command = Command::CreateConnector { name: name.clone(), config, target };
        self.change_as((&request.request_id, asked), command, subject).await?;
        Ok((show(&self.scene_after_change().await, &name)?, warnings))
    }

    async fn update(&self, request: admin::UpdateConnectorRequest) -> Result<(admin::Connector, Vec<String>), Status> {
        check_request_id(&request.request_id)?;
        let expected = revision_of(&request.etag)?;
        let name = request.name.clone();
        let subject = Subject::connector(&name);
        let asked = changes::asked_to_update(&request);
        let scene = self.confirmed_scene().await?;
        let Some(stored) = scene.state.connectors().get(&name) else {
            if !request.allow_missing || expected > 0 {
                return Err(status::not_found(subject));
            }
            let config: HashMap<_, _> = changes::merge(&Config::new(), &request)?.config.into_iter().collect();
            return self
                .create(
                    admin::CreateConnectorRequest {
                        name,
                        config,
                        request_id: request.request_id,
                        validate_only: request.validate_only,
                        initial_state: admin::TargetState::Unspecified.into(),
                    },
                    asked,
                )
                .await;
        };
        let merged = changes::merge(&stored.config, &request)?;
        changes::refuse_hidden(&name, &merged.config, &stored.config)?;
        let (next, mut warnings) = self.checked(&name, &merged.config)?;
        let rolls = ConnectorSpec::parse(&name, &stored.config).is_ok_and(|(present, _)| present.rolls_to(&next));
        if stored.target == TargetState::Running && merged.config != stored.config {
            warnings.extend(interruption(&scene, &stored.writer, rolls));
        }
        if request.validate_only {
            check_etag(expected, stored.revision, subject)?;
            return Ok((convert::proposed(&name, &merged.config, stored.target), warnings));
        }
        // What was merged into one revision must not replace another.
        let expected_revision = if expected == 0 && merged.rests_on_stored { stored.revision } else { expected };
        let rolls_from = if rolls { stored.revision } else { 0 };
        let config = merged.config;
        let command = Command::UpdateConnector { name: name.clone(), config, expected_revision, rolls_from };
        self.change_as((&request.request_id, asked), command, subject).await?;
        Ok((show(&self.scene_after_change().await, &name)?, warnings))
    }

    async fn aim(&self, name: &str, request_id: &str, target: TargetState) -> Result<admin::Connector, Status> {
        let command = Command::SetTarget { name: name.to_owned(), target };
        self.change(command, request_id, Subject::connector(name)).await?;
        show(&self.scene_after_change().await, name)
    }

    /// The specification of a configuration, with what is worth saying about it.
    fn checked(&self, name: &str, config: &Config) -> Result<(ConnectorSpec, Vec<String>), Status> {
        let (spec, mut warnings) =
            ConnectorSpec::parse(name, config).map_err(|errors| status::invalid_config(name, errors))?;
        let mut errors = Vec::new();
        match kafka::overrides(&spec.producer_overrides, spec.feed.message_bytes_max) {
            Ok(judged) => warnings.extend(judged.warnings),
            Err(refused) => errors.extend(refused),
        }
        let relayed_bytes_max = self.limits.relayed_bytes_max;
        if spec.redundancy == Redundancy::Dual && spec.feed.message_bytes_max > relayed_bytes_max {
            errors.push(FieldError {
                key: MESSAGE_BYTES_MAX.to_owned(),
                message: format!("the nodes can pass on messages of {relayed_bytes_max} bytes to each other"),
                hint: "lower it, or raise limits.internal_message_bytes_max on every node".to_owned(),
            });
        }
        if !errors.is_empty() {
            return Err(status::invalid_config(name, errors));
        }
        let line = |warning: Warning| format!("{}: {}", warning.key, warning.message);
        Ok((spec, warnings.into_iter().map(line).collect()))
    }
}

/// The connector as the API shows it.
pub(super) fn show(scene: &Scene, name: &str) -> Result<admin::Connector, Status> {
    let connector = scene.state.connectors().get(name).ok_or_else(|| status::not_found(Subject::connector(name)))?;
    Ok(convert::connector(scene, connector))
}

/// Says why a change of a running connector interrupts its stream, if it does.
fn interruption(scene: &Scene, writer: &WriterId, rolls: bool) -> Option<String> {
    let assignment = scene.state.writers().get(writer).and_then(|writer| writer.assignment.as_ref());
    let why = if !rolls {
        "another topic, other subscription messages, or one subscription only"
    } else if assignment.is_some_and(|assignment| assignment.standby.is_none()) {
        "no standby is there to take it over"
    } else {
        return None;
    };
    Some(format!(
        "{why}: the stream is reopened, what the feed sends meanwhile is not read, and a gap event has its bounds"
    ))
}

fn check_etag(expected: u64, actual: u64, subject: Subject<'_>) -> Result<(), Status> {
    if expected == 0 || expected == actual { Ok(()) } else { Err(status::conflict(subject, expected, actual)) }
}

fn initial_target(state: i32) -> Result<TargetState, Status> {
    match admin::TargetState::try_from(state) {
        Ok(admin::TargetState::Unspecified | admin::TargetState::Running) => Ok(TargetState::Running),
        Ok(admin::TargetState::Paused) => Ok(TargetState::Paused),
        Ok(admin::TargetState::Stopped) => Ok(TargetState::Stopped),
        Err(_) => Err(status::invalid_field("initial_state", "is not a state that this node knows")),
    }
}

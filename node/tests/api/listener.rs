//! What any gRPC tool finds on the admin port: health, reflection, and a prompt end.

use std::time::Duration;

use tokio_stream::StreamExt;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::{v1, v1alpha};
use twinfeed_node::api::Limits;
use twinfeed_proto::admin::StreamEventsRequest;

use crate::kit::{Node, request};

#[tokio::test]
async fn health_follows_the_leader() {
    let node = Node::start().await;
    let mut health = HealthClient::new(node.channel.clone());
    for service in ["", "twinfeed.admin.v1.ConnectorService", "twinfeed.admin.v1.ClusterService"] {
        let mut watch = health.watch(HealthCheckRequest { service: service.into() }).await.unwrap().into_inner();
        let serving = async {
            while let Some(answer) = watch.message().await.unwrap() {
                if answer.status() == ServingStatus::Serving {
                    return;
                }
            }
            panic!("{service}: the watch ended");
        };
        tokio::time::timeout(Duration::from_secs(30), serving).await.expect("a node alone leads");
    }
}

#[tokio::test]
async fn reflection_v1_lists_services_and_knows_error_details() {
    use v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let node = Node::start().await;
    let ask = |message_request| ServerReflectionRequest { host: String::new(), message_request: Some(message_request) };
    let requests = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("twinfeed.admin.v1.ConnectorService".into())),
        ask(MessageRequest::FileContainingSymbol("google.rpc.BadRequest".into())),
    ];
    let mut client = ServerReflectionClient::new(node.channel.clone());
    let mut answers = client.server_reflection_info(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) = answers.next().await.unwrap().unwrap().message_response
    else {
        panic!("not a list")
    };
    let mut names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    names.sort_unstable();
    let served = ["grpc.health.v1.Health", "twinfeed.admin.v1.ClusterService", "twinfeed.admin.v1.ConnectorService"];
    assert_eq!(names, served, "what is served here, and nothing of the internal protocol");
    for _ in 0..2 {
        let answer = answers.next().await.unwrap().unwrap().message_response;
        assert!(matches!(answer, Some(MessageResponse::FileDescriptorResponse(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn reflection_v1alpha_serves_older_tools() {
    use v1alpha::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let node = Node::start().await;
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let requests = tokio_stream::iter([ServerReflectionRequest { host: String::new(), message_request }]);
    let mut client = ServerReflectionClient::new(node.channel.clone());
    let mut answers = client.server_reflection_info(requests).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response;
    assert!(matches!(answer, Some(MessageResponse::ListServicesResponse(list)) if list.service.len() >= 3));
}

#[tokio::test]
async fn a_request_beyond_the_limit_is_refused_and_one_below_it_is_read() {
    let large = || {
        let mut create = request("btc");
        create.config.insert("websocket.subscription.message".into(), "x".repeat(2 << 20));
        create
    };
    let small = Node::start_with(Limits { message_bytes_max: 1 << 20, ..Limits::default() }).await;
    let refused = small.connectors().create_connector(large()).await.expect_err("beyond the limit");
    assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");
    let roomy = Node::start_with(Limits { message_bytes_max: 8 << 20, ..Limits::default() }).await;
    let read = roomy.connectors().create_connector(large()).await.expect_err("larger than a configuration may be");
    assert_ne!(read.code(), Code::OutOfRange, "{read:?}");
}

#[tokio::test]
async fn an_open_stream_does_not_hold_up_the_end() {
    let node = Node::start().await;
    let follow = StreamEventsRequest::default();
    let mut stream = node.cluster().stream_events(follow).await.unwrap().into_inner();
    let stopping = node.stop(Duration::from_secs(30));
    let (ended, report) = tokio::join!(stream.message(), stopping);
    assert!(matches!(ended, Ok(None)), "{ended:?}");
    assert!(report.left.is_empty(), "{report:?}");
}

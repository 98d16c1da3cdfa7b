//! DescribeConfigs, IncrementalAlterConfigs and AlterConfigs: how topics are kept, and the endpoint.

use aqueduct_api::{Error, TopicSettings};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, alter_configs_response,
};
use kafka_protocol::protocol::StrBytes;

use crate::broker::{Broker, NODE};
use crate::broker_settings;
use crate::call::{Caller, Wrong};
use crate::names::{self, text};
use crate::security::rights::{Operation, Resource};
use crate::settings::{self, DEFAULT, Described};

/// What has a configuration, as Kafka counts.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// What may be done to a value.
const SET: i8 = 0;
const RESET: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// DescribeConfigs.
pub(crate) async fn describe(
    broker: &Broker,
    request: DescribeConfigsRequest,
    caller: &Caller,
) -> DescribeConfigsResponse {
    let mut results = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let described = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        results.push(match of_resource(broker, &resource, caller).await {
            Err(wrong) => described.with_error_code(wrong.code()).with_error_message(wrong.message()),
            Ok(settings) => {
                let is_asked = |setting: &Described| {
                    resource
                        .configuration_keys
                        .as_ref()
                        .is_none_or(|keys| keys.iter().any(|key| **key == *setting.name))
                };
                let told = settings.into_iter().filter(is_asked);
                let told =
                    told.map(|setting| told_of(&setting, request.include_synonyms, request.include_documentation));
                described.with_configs(told.collect())
            }
        });
    }
    DescribeConfigsResponse::default().with_results(results)
}

async fn of_resource(
    broker: &Broker,
    resource: &DescribeConfigsResource,
    caller: &Caller,
) -> Result<Vec<Described>, Wrong> {
    if resource.resource_type != TOPIC {
        caller.may(Operation::DescribeConfigs, Resource::Cluster)?;
    }
    match resource.resource_type {
        TOPIC => {
            let access = caller.to(Operation::DescribeConfigs);
            access.check(&resource.resource_name)?;
            names::check(&resource.resource_name)?;
            let topic = broker.topic(access, &resource.resource_name).await?;
            Ok(settings::described(&topic.settings).collect())
        }
        BROKER if *resource.resource_name == *NODE.to_string() => Ok(broker_settings::described(broker)),
        // What all brokers would share that can be changed while they run.
        BROKER if resource.resource_name.is_empty() => Ok(Vec::new()),
        BROKER => Err(Wrong::new(ResponseError::InvalidRequest, format!("there is one broker, {NODE}"))),
        _ => Err(Wrong::new(ResponseError::InvalidRequest, "topics and brokers have configurations here")),
    }
}

fn told_of(setting: &Described, with_synonyms: bool, with_words: bool) -> DescribeConfigsResourceResult {
    let name = StrBytes::from_static_str(setting.name);
    let synonym = |value: &str, source| {
        DescribeConfigsSynonym::default().with_name(name.clone()).with_value(Some(text(value))).with_source(source)
    };
    let mut synonyms = Vec::new();
    if with_synonyms {
        if setting.source != DEFAULT {
            synonyms.push(synonym(&setting.value, setting.source));
        }
        synonyms.push(synonym(&setting.default, DEFAULT));
    }
    DescribeConfigsResourceResult::default()
        .with_name(name.clone())
        .with_value(Some(text(&setting.value)))
        .with_config_source(setting.source)
        .with_config_type(setting.kind)
        .with_read_only(setting.is_fixed)
        .with_synonyms(synonyms)
        .with_documentation(with_words.then(|| StrBytes::from_static_str(setting.what)))
}

/// IncrementalAlterConfigs.
pub(crate) async fn alter(
    broker: &Broker,
    request: IncrementalAlterConfigsRequest,
    caller: &Caller,
) -> IncrementalAlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let (kind, name) = (resource.resource_type, &resource.resource_name);
        let change = |wanted: &mut TopicSettings| resource.configs.iter().try_for_each(|config| apply(wanted, config));
        let altered = alter_one(broker, (kind, name), change, request.validate_only, caller).await;
        let described = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name);
        responses.push(match altered {
            Ok(()) => described,
            Err(wrong) => described.with_error_code(wrong.code()).with_error_message(wrong.message()),
        });
    }
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

/// AlterConfigs, as older clients send it: what is not named goes back to its default.
pub(crate) async fn replace(broker: &Broker, request: AlterConfigsRequest, caller: &Caller) -> AlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let (kind, name) = (resource.resource_type, &resource.resource_name);
        let change = |wanted: &mut TopicSettings| {
            settings::reset_all(wanted)?;
            resource.configs.iter().try_for_each(|config| match &config.value {
                Some(value) => settings::set(wanted, &config.name, value),
                None => settings::reset(wanted, &config.name),
            })
        };
        let altered = alter_one(broker, (kind, name), change, request.validate_only, caller).await;
        let described = alter_configs_response::AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name);
        responses.push(match altered {
            Ok(()) => described,
            Err(wrong) => described.with_error_code(wrong.code()).with_error_message(wrong.message()),
        });
    }
    AlterConfigsResponse::default().with_responses(responses)
}

async fn alter_one(
    broker: &Broker,
    (kind, name): (i8, &str),
    change: impl FnOnce(&mut TopicSettings) -> Result<(), Wrong>,
    only_check: bool,
    caller: &Caller,
) -> Result<(), Wrong> {
    if kind != TOPIC {
        caller.may(Operation::AlterConfigs, Resource::Cluster)?;
        let why = "only topics are configured by clients: the rest is in the daemon's configuration";
        return Err(Wrong::new(ResponseError::InvalidRequest, why));
    }
    let access = caller.to(Operation::AlterConfigs);
    access.check(name)?;
    names::check(name)?;
    let topic = broker.topic(access, name).await?;
    if names::is_ours(&topic.name) {
        return Err(Wrong::new(ResponseError::InvalidRequest, "the topic is the runtime's own"));
    }
    let mut wanted = topic.settings.clone();
    change(&mut wanted)?;
    if only_check {
        return Ok(());
    }
    match broker.host.alter(&topic.name, topic.partitions, &wanted).await {
        Err(cause @ Error::Refused { .. }) => Err(Wrong::new(ResponseError::InvalidConfig, cause.to_string())),
        altered => altered.map(drop).map_err(Wrong::from),
    }
}

fn apply(settings: &mut TopicSettings, config: &AlterableConfig) -> Result<(), Wrong> {
    match (config.config_operation, &config.value) {
        (SET, Some(value)) => settings::set(settings, &config.name, value),
        (RESET, _) => settings::reset(settings, &config.name),
        (APPEND | SUBTRACT, _) => {
            Err(Wrong::new(ResponseError::InvalidConfig, format!("`{}` is one value, not a list", config.name)))
        }
        (SET, None) => Err(Wrong::new(ResponseError::InvalidConfig, format!("`{}` has no value", config.name))),
        _ => Err(Wrong::new(ResponseError::InvalidRequest, "a value is set, reset, appended to or subtracted from")),
    }
}

//! The one place that decides what somebody may do.

use kafka_protocol::error::ResponseError;

/// What may be done to something, as Kafka counts its operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Read records, or a group's work: to be a member, to commit.
    Read = 3,
    /// Write records, or in a transaction.
    Write = 4,
    /// Make topics.
    Create = 5,
    /// Take topics, records or groups away.
    Delete = 6,
    /// Give topics more partitions.
    Alter = 7,
    /// Know that it is there, and how far it has come.
    Describe = 8,
    /// What brokers do to each other.
    ClusterAction = 9,
    /// Know how it is kept.
    DescribeConfigs = 10,
    /// Say how it is kept.
    AlterConfigs = 11,
    /// Write with sequence numbers.
    IdempotentWrite = 12,
}

impl Operation {
    const fn bit(self) -> i32 {
        1 << (self as i32)
    }
}

/// What something is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource<'a> {
    Topic(&'a str),
    Group(&'a str),
    Transaction(&'a str),
    Cluster,
}

/// Kinds of what something is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// A topic.
    Topic,
    /// A group.
    Group,
    /// A transactional id.
    Transaction,
    /// The whole.
    Cluster,
}

impl Resource<'_> {
    /// Its kind.
    pub(crate) fn kind(self) -> Of {
        match self {
            Resource::Topic(_) => Of::Topic,
            Resource::Group(_) => Of::Group,
            Resource::Transaction(_) => Of::Transaction,
            Resource::Cluster => Of::Cluster,
        }
    }
}

impl Of {
    /// What somebody is told who may not do it.
    pub(crate) fn refused(self) -> ResponseError {
        match self {
            Of::Topic => ResponseError::TopicAuthorizationFailed,
            Of::Group => ResponseError::GroupAuthorizationFailed,
            Of::Transaction => ResponseError::TransactionalIdAuthorizationFailed,
            Of::Cluster => ResponseError::ClusterAuthorizationFailed,
        }
    }

    /// What can be done to one, as the bits of Kafka's operations.
    const fn operations(self) -> i32 {
        match self {
            Of::Topic => 0x0df8,
            Of::Group => 0x0d48,
            Of::Transaction => 0x0110,
            Of::Cluster => 0x1fa0,
        }
    }
}

/// What an API asks for before it does its work: each row of the table says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// What is done.
    pub(crate) operation: Operation,
    /// To what.
    pub(crate) of: Of,
    /// Whether who may not is told so, or is told of nothing.
    pub(crate) is_told: bool,
}

/// Who may not is told so.
pub(crate) const fn needs(operation: Operation, of: Of) -> Need {
    Need { operation, of, is_told: true }
}

/// Who may not sees nothing of it.
pub(crate) const fn hides(operation: Operation, of: Of) -> Need {
    Need { operation, of, is_told: false }
}

/// What somebody may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    topics: Vec<Grant>,
    groups: Vec<Grant>,
    transactional_ids: Vec<Grant>,
    cluster: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    pattern: Pattern,
    operations: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exactly(String),
    Beginning(String),
}

impl Pattern {
    fn matches(&self, name: &str) -> bool {
        match self {
            Pattern::Exactly(known) => known == name,
            Pattern::Beginning(known) => name.starts_with(&**known),
        }
    }
}

/// A right, as the configuration has them. Each lets know what is there and how it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Read records; be a member of a group, and commit.
    Read,
    /// Write records; in transactions of an id.
    Write,
    /// Make topics.
    Create,
    /// Say how it is kept, give it partitions, and take it or its records away.
    Alter,
    /// Everything.
    Admin,
}

impl Right {
    fn operations(self) -> i32 {
        use Operation::*;
        let own = match self {
            Right::Read => Read.bit(),
            Right::Write => Write.bit(),
            Right::Create => Create.bit(),
            Right::Alter => Alter.bit() | AlterConfigs.bit() | Delete.bit(),
            Right::Admin => i32::MAX,
        };
        own | Describe.bit() | DescribeConfigs.bit()
    }
}

impl Rights {
    /// Grants a right to what a pattern names: a name, or what it begins with before a `*`; to the cluster, whatever the pattern.
    pub fn grant(&mut self, of: Of, pattern: &str, right: Right) {
        let operations = right.operations();
        let grants = match of {
            Of::Topic => &mut self.topics,
            Of::Group => &mut self.groups,
            Of::Transaction => &mut self.transactional_ids,
            Of::Cluster => return self.cluster |= operations,
        };
        let pattern = match pattern.strip_suffix('*') {
            Some(beginning) => Pattern::Beginning(beginning.to_owned()),
            None => Pattern::Exactly(pattern.to_owned()),
        };
        grants.push(Grant { pattern, operations });
    }

    /// To do everything.
    pub fn all() -> Self {
        let all = || vec![Grant { pattern: Pattern::Beginning(String::new()), operations: i32::MAX }];
        Rights { topics: all(), groups: all(), transactional_ids: all(), cluster: i32::MAX }
    }

    /// To do everything but one thing.
    #[cfg(test)]
    pub(crate) fn all_but(operation: Operation, of: Of) -> Self {
        let mut rights = Rights::all();
        let grants = match of {
            Of::Topic => &mut rights.topics,
            Of::Group => &mut rights.groups,
            Of::Transaction => &mut rights.transactional_ids,
            Of::Cluster => {
                rights.cluster &= !operation.bit();
                return rights;
            }
        };
        grants[0].operations &= !operation.bit();
        // It would let make any topic.
        rights.cluster &= !Operation::Create.bit();
        rights
    }

    /// Whether something may be done.
    pub(crate) fn allow(&self, operation: Operation, resource: Resource<'_>) -> bool {
        let of_its_own = self.granted(resource) & operation.bit() != 0;
        of_its_own
            || match (operation, resource) {
                // Who may make topics may make any.
                (Operation::Create, Resource::Topic(_)) => self.cluster & Operation::Create.bit() != 0,
                // Who may write to any topic may do it with sequence numbers.
                (Operation::IdempotentWrite, Resource::Cluster) => {
                    self.topics.iter().any(|grant| grant.operations & Operation::Write.bit() != 0)
                }
                _ => false,
            }
    }

    /// What may be done to something, as the bits of Kafka's operations.
    pub(crate) fn operations(&self, resource: Resource<'_>) -> i32 {
        self.granted(resource) & resource.kind().operations()
    }

    fn granted(&self, resource: Resource<'_>) -> i32 {
        let (grants, name) = match resource {
            Resource::Topic(name) => (&self.topics, name),
            Resource::Group(name) => (&self.groups, name),
            Resource::Transaction(name) => (&self.transactional_ids, name),
            Resource::Cluster => return self.cluster,
        };
        let matching = grants.iter().filter(|grant| grant.pattern.matches(name));
        matching.fold(0, |granted, grant| granted | grant.operations)
    }
}

#[cfg(test)]
mod tests;

//! Delivers records as documents to Elasticsearch and OpenSearch.

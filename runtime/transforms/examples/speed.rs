//! How many records a second of processor time go through transforms: `cargo run --release -p aqueduct-transforms --example speed`.

use std::error::Error;
use std::path::PathBuf;

use aqueduct_api::{Draft, Edge, Registry, TransformOpening};
use aqueduct_transforms::{Filter, Route, Vrl};

const BATCH: usize = 1000;
const BATCHES: usize = 200;

const JSON: &str = r#"{"time":"2026-11-20T08:00:00.123Z","level":"info","service":"checkout","host":"web-17.eu.example.com","request":{"method":"POST","path":"/api/v2/orders/184467","status":201,"ms":37.25},"user":"u-90210","trace":"4bf92f3577b34da6a3ce929d0e0e4736","message":"order accepted and handed to fulfilment","items":3}"#;
const NGINX: &str = r#"172.17.0.1 - alice [31/Mar/2021:12:04:07 +0000] "POST /not-found?a=1 HTTP/1.1" 404 153 "http://localhost/somewhere" "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/119.0 Safari/537.36" "75.123.8.9""#;

fn main() -> Result<(), Box<dyn Error>> {
    println!("{} bytes of JSON, {} bytes of access log", JSON.len(), NGINX.len());
    for (name, program, value) in [
        ("vrl", ". = parse_json!(.message)\n.seen = true\ndel(.host)", JSON),
        ("vrl", ". = parse_json!(.message)", JSON),
        ("vrl", ". = parse_nginx_log!(.message, \"combined\")", NGINX),
        ("vrl", "%headers.seen = \"true\"", JSON),
        ("filter", "parse_json!(.message).level == \"info\"", JSON),
        ("filter", "contains(string!(.message), \"checkout\")", JSON),
        ("route", "\"service.\" + string!(parse_json!(.message).service)", JSON),
    ] {
        let rate = rate(name, program, value)?;
        println!("{rate:>10.0} records per CPU-second  {name}: {}", program.replace('\n', "; "));
    }
    Ok(())
}

fn rate(name: &str, program: &str, value: &str) -> Result<f64, Box<dyn Error>> {
    let registry = Registry::default().transform::<Vrl>().transform::<Filter>().transform::<Route>();
    let runtime = tokio::runtime::Runtime::new()?;
    let guard = runtime.enter();
    let opening = TransformOpening { folder: PathBuf::from("/"), edge: Edge::real(), trial: None };
    let transform = registry.transforms[name].open(program.into(), opening)?;
    drop(guard);
    let draft = |offset| Draft {
        topic: "logs".into(),
        partition: None,
        offset,
        timestamp: 1_767_225_600_000,
        key: None,
        value: Some(value.as_bytes().into()),
        headers: Vec::new(),
    };
    let before = cpu_seconds()?;
    let mut made = 0;
    for _ in 0..BATCHES {
        let drafts = (0..BATCH as i64).map(draft).collect();
        made += runtime.block_on(transform.apply(drafts))?.drafts.len();
    }
    let spent = cpu_seconds()? - before;
    assert_eq!(made, BATCH * BATCHES);
    Ok(made as f64 / spent)
}

/// What this thread has had of a processor.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let figures = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = figures.split_whitespace().next().ok_or("no figures")?.parse()?;
    Ok(nanoseconds / 1e9)
}

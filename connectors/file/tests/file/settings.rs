//! What people declare, and what they are told about it.

use aqueduct_api::{Settings, SourceSettings};
use aqueduct_file::FileSettings;
use serde_json::{Value, json};

use crate::world::World;

fn problems(settings: &Value) -> Vec<String> {
    let settings: FileSettings = serde_json::from_value(settings.clone()).unwrap();
    settings.problems().into_iter().map(|problem| format!("{}: {}", problem.setting, problem.message)).collect()
}

#[test]
fn what_the_manual_shows_is_taken() {
    for settings in [
        json!({"paths": ["/var/log/app.log"]}),
        json!({"paths": ["logs/**/*.{log,log.gz}", "../x-[0-9].log"], "exclude": ["**/tmp/*"], "start": "end"}),
        json!({"paths": ["a"], "framing": "nul", "multiline": {"start": "^[0-9]{4}-"}, "max-record": "1 GiB"}),
        json!({"paths": ["a"], "multiline": {"continue": "^\\s", "timeout": -1, "max-lines": 1}}),
        json!({"paths": ["a"], "headers": ["path", "inode", "offset"], "compressed": "never", "rotate-wait": 0}),
        json!({"paths": ["a"], "unfinished-after": "1m", "ignore-older": "7d", "forget-after": -1}),
    ] {
        assert_eq!(problems(&settings), [""; 0], "{settings}");
    }
}

#[test]
fn problems_name_the_setting_and_what_would_be_right() {
    for (settings, expected) in [
        (json!({"paths": []}), "paths: is empty: name at least one path or glob"),
        (json!({"paths": ["a", "b["]}), "paths[1]: `b[` is not a glob: "),
        (json!({"paths": ["a"], "exclude": ["{x"]}), "exclude[0]: `{x` is not a glob: "),
        (json!({"paths": ["a"], "max-record": 0}), "max-record: must lie between 1 B and 1 GiB"),
        (json!({"paths": ["a"], "max-record": "2 GiB"}), "max-record: must lie between 1 B and 1 GiB"),
        (json!({"paths": ["a"], "poll": 0}), "poll: must be longer than nothing, for example `250ms`"),
        (json!({"paths": ["a"], "poll": -1}), "poll: must be longer than nothing"),
        (json!({"paths": ["a"], "discover": 0}), "discover: must be longer than nothing"),
        (json!({"paths": ["a"], "rotate-wait": -1}), "rotate-wait: must have an end, for example `2s`: "),
        (json!({"paths": ["a"], "headers": ["path", "offset", "path"]}), "headers[2]: `path` is there twice"),
        (json!({"paths": ["a"], "multiline": {}}), "multiline: needs either `start` or `continue`"),
        (json!({"paths": ["a"], "multiline": {"start": "a", "continue": "b"}}), "multiline: needs either"),
        (
            json!({"paths": ["a"], "multiline": {"start": "(a"}}),
            "multiline.start: `(a` is not a regular expression: unclosed group",
        ),
        (
            json!({"paths": ["a"], "multiline": {"continue": "*"}}),
            "multiline.continue: `*` is not a regular expression: repetition operator missing expression",
        ),
        (
            json!({"paths": ["a"], "multiline": {"start": "a", "max-lines": 0}}),
            "multiline.max-lines: must be at least 1",
        ),
    ] {
        let told = problems(&settings);
        assert!(told.len() == 1 && told[0].starts_with(expected), "{settings}: {told:?}");
    }
}

#[test]
fn what_is_not_known_is_refused() {
    for (settings, expected) in [
        (json!({}), "missing field `paths`"),
        (json!({"paths": ["a"], "path": "b"}), "unknown field `path`"),
        (json!({"paths": ["a"], "start": "middle"}), "unknown variant `middle`"),
        (json!({"paths": ["a"], "multiline": {"begin": "b"}}), "unknown field `begin`"),
        (json!({"paths": ["a"], "headers": ["name"]}), "unknown variant `name`"),
    ] {
        let error = serde_json::from_value::<FileSettings>(settings).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_tells_what_matches_and_what_can_not_be_read() {
    let world = World::new(json!({"paths": ["/l/*.log", "/gone/*.log"], "exclude": ["/l/x.log"]}));
    for name in ["a", "b", "x"] {
        world.disk.append(&format!("/l/{name}.log"), "1\n");
    }
    world.disk.refuse("/l/b.log", true);
    world.disk.pipe("/l/pipe.log");
    let settings: FileSettings = serde_json::from_value(world.settings.clone()).unwrap();
    let told = settings.probe(world.opening(Vec::new())).await.unwrap();
    let expected = [
        "2 files match",
        "/gone: entity not found",
        "/l/pipe.log: is a pipe, socket or device: not read",
        "/l/b.log can not be read: permission denied",
    ];
    assert_eq!(told, expected);
}

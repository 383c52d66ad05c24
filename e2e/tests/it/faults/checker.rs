//! What must hold whatever was killed, cut off or held up: checked from a log of all changes of state that the database itself keeps,
//! and from what came out. Knows nothing of the farm's own code.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use futures::{StreamExt, stream};
use reelmill_testkit::wait::until;
use reelmill_testkit::{Client, Farm};
use tokio_postgres::Client as Database;

use crate::judge::Playback;
use crate::receiver::Receiver;
use crate::support::text;

/// The database notes every change of a state by itself, in the transaction that makes it.
const NOTE_TRANSITIONS: &str = "
    create table transitions (
        n bigint generated always as identity, at timestamptz not null default clock_timestamp(),
        of text not null, id uuid not null, old text, new text not null, epoch integer);
    create function note_transition() returns trigger language plpgsql as $$
    begin
        insert into transitions (of, id, old, new, epoch) values (
            tg_table_name, new.id, case when tg_op = 'UPDATE' then old.status end, new.status,
            (to_jsonb(new) ->> 'epoch')::integer);
        return null;
    end $$;
    create trigger note_insert after insert on jobs for each row execute function note_transition();
    create trigger note_insert after insert on tasks for each row execute function note_transition();
    create trigger note_update after update on jobs for each row
        when (old.status is distinct from new.status) execute function note_transition();
    create trigger note_update after update on tasks for each row
        when (old.status is distinct from new.status) execute function note_transition();";

/// Written down a second time on purpose: what the farm thinks legal is what is under test.
const LEGAL: [(&str, &str, &[&str]); 12] = [
    ("jobs", "", &["queued"]),
    ("jobs", "queued", &["running", "failed", "cancelled"]),
    ("jobs", "running", &["succeeded", "failed", "cancelled"]),
    ("jobs", "succeeded", &[]),
    ("jobs", "failed", &[]),
    ("jobs", "cancelled", &[]),
    ("tasks", "", &["blocked", "ready"]),
    ("tasks", "blocked", &["ready", "cancelled"]),
    ("tasks", "ready", &["running", "cancelled"]),
    ("tasks", "running", &["ready", "succeeded", "failed", "cancelled"]),
    ("tasks", "succeeded", &[]),
    ("tasks", "failed", &[]),
];

/// How a job that was accepted may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    Well,
    /// For good: the input is bad.
    Badly,
    /// Well, or for want of attempts: a task may have lost each of its workers.
    Survives,
}

/// Where a receiver gets what a project's endpoint is sent, and what jobs name themselves.
pub const ENDPOINT: &str = "/endpoint";
pub const CALLBACK: &str = "/callback";

/// Jobs the farm said yes to, and what is expected of them.
pub struct Checker {
    accepted: HashMap<String, Ends>,
    database: Database,
}

/// What was seen, for people.
#[derive(Debug, Default)]
pub struct Counts {
    pub jobs: usize,
    pub succeeded: usize,
    pub failed: usize,
    pub cancelled: usize,
    pub transitions: i64,
    pub attempts: i64,
    /// Attempts that ended with the loss of their worker, or were given back.
    pub lost: i64,
    pub released: i64,
    pub frames: usize,
}

impl Checker {
    /// Begins to watch a farm, which must have done nothing yet.
    pub async fn watch(farm: &Farm) -> Self {
        let database = farm.database.connect().await;
        database.batch_execute(NOTE_TRANSITIONS).await.unwrap();
        Self { accepted: HashMap::new(), database }
    }

    /// Notes a job that the farm has accepted.
    pub fn expect(&mut self, job: &str, ends: Ends) {
        self.accepted.insert(job.to_owned(), ends);
    }

    /// Jobs that are not over.
    pub async fn open(&self) -> usize {
        self.number("select count(*) from jobs where status in ('queued', 'running')").await as usize
    }

    /// Connections that the database has of programs with this name.
    pub async fn open_connections(&self, name: &str) -> i64 {
        let count = "select count(*) from pg_stat_activity where application_name = $1";
        self.database.query_one(count, &[&name]).await.unwrap().get(0)
    }

    /// What failed had all its attempts.
    async fn used_up(&self, id: &str, status: &str) {
        if status == "failed" {
            let spared = format!(
                "select id::text from tasks where job_id = '{id}' and status = 'failed' and attempts < max_attempts"
            );
            self.none("failed tasks with attempts left", &spared).await;
        }
    }

    /// After the database was killed the connection is a new one.
    pub async fn reconnect(&mut self, farm: &Farm) {
        self.database = farm.database.connect().await;
    }

    async fn number(&self, sql: &str) -> i64 {
        self.database.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Nothing of what this lists may be there.
    async fn none(&self, what: &str, sql: &str) {
        let rows = self.database.query(sql, &[]).await.unwrap();
        let told: Vec<String> = rows.iter().take(5).map(|row| row.get::<_, String>(0)).collect();
        assert!(rows.is_empty(), "{what}: {} of them, such as {told:?}", rows.len());
    }

    /// Waits until every accepted job is over (I1, I7): nothing is wrong any more, so it must not take longer than `most`.
    pub async fn settle(&self, client: &Client, most: Duration) {
        until("every accepted job to be over", most, || async {
            let open = self.number("select count(*) from jobs where status in ('queued', 'running')").await;
            (open == 0).then_some(())
        })
        .await;
        let mut lost = vec![];
        for job in self.accepted.keys() {
            let (status, _) = client.try_get(&format!("/jobs/{job}")).await;
            lost.extend((!status.is_success()).then_some(job));
        }
        assert!(lost.is_empty(), "accepted and not known any more: {lost:?}");
    }

    /// Checks everything, once all is quiet and settled.
    pub async fn verify(&self, farm: &Farm) -> Counts {
        self.transitions_are_legal().await;
        self.ends_are_told_once().await;
        self.attempts_are_counted().await;
        self.one_epoch_is_published().await;
        let mut counts = self.ends_are_as_expected(&farm.client).await;
        self.nothing_is_left_over(farm).await;
        counts.transitions = self.number("select count(*) from transitions").await;
        counts.attempts = self.number("select count(*) from attempts").await;
        counts.lost = self.number("select count(*) from attempts where outcome = 'lost'").await;
        counts.released = self.number("select count(*) from attempts where outcome = 'released'").await;
        counts
    }

    /// I3.
    async fn transitions_are_legal(&self) {
        let rows = self
            .database
            .query("select distinct of, coalesce(old, ''), new, min(id::text) over (partition by of, old, new) from transitions", &[])
            .await
            .unwrap();
        for row in rows {
            let (of, old, new): (&str, &str, &str) = (row.get(0), row.get(1), row.get(2));
            let legal =
                LEGAL.iter().any(|(table, from, to)| *table == of && *from == old && to.contains(&new));
            assert!(legal, "{of} went from {old:?} to {new:?}, such as {}", row.get::<_, &str>(3));
        }
        // Epochs only grow, and a task runs under a new one each time.
        self.none(
            "epochs that did not grow",
            "select id::text from (
                 select id, epoch, lag(epoch) over (partition by id order by n) as before
                 from transitions where of = 'tasks' and new = 'running') t
             where before is not null and epoch <= before",
        )
        .await;
    }

    /// I4.
    async fn ends_are_told_once(&self) {
        self.none(
            "jobs whose end was not told exactly once",
            "select j.id::text from jobs j
             left join events e on e.job_id = j.id and e.type = 'job.' || j.status
             where j.status in ('succeeded', 'failed', 'cancelled') group by j.id having count(e.id) <> 1",
        )
        .await;
        self.none(
            "jobs with two ends",
            "select job_id::text from events where type in ('job.succeeded', 'job.failed', 'job.cancelled')
             group by job_id having count(*) > 1",
        )
        .await;
    }

    /// The rest of I4: the end of every job came to each address that it was to be sent to, under the id of its event however often it came.
    pub async fn ends_are_delivered(&self, receiver: &Receiver) {
        let ends = "select e.event_id::text, j.spec ->> 'callback_url' is not null
                    from events e join jobs j on j.id = e.job_id
                    where e.type in ('job.succeeded', 'job.failed', 'job.cancelled')";
        let ends = self.database.query(ends, &[]).await.unwrap();
        let ids_at = |path| -> HashSet<String> {
            receiver.at(path).iter().map(|received| received.id().to_owned()).collect()
        };
        until("every end to be delivered", Duration::from_secs(120), || async {
            // What was refused twice waits for minutes.
            let hasten = "update deliveries set next_attempt_at = now() where state = 'pending' and next_attempt_at > now()";
            self.database.execute(hasten, &[]).await.unwrap();
            let (endpoint, callback) = (ids_at(ENDPOINT), ids_at(CALLBACK));
            let told = |id: &str, calls: bool| endpoint.contains(id) && (!calls || callback.contains(id));
            ends.iter().all(|row| told(row.get(0), row.get(1))).then_some(())
        })
        .await;
        for path in [ENDPOINT, CALLBACK] {
            let mut ids = HashMap::new();
            let is_end = |kind: &str| ["job.succeeded", "job.failed", "job.cancelled"].contains(&kind);
            for received in receiver.at(path).into_iter().filter(|received| is_end(&received.kind())) {
                let id = ids
                    .entry(received.json()["data"]["job_id"].clone())
                    .or_insert_with(|| received.id().to_owned());
                assert_eq!(id, received.id(), "an event has one id: {}", received.body);
            }
        }
    }

    /// I5.
    async fn attempts_are_counted(&self) {
        self.none("tasks with too many attempts", "select id::text from tasks where attempts > max_attempts")
            .await;
        self.none(
            "tasks whose attempts are miscounted",
            "select t.id::text from tasks t left join attempts a on a.task_id = t.id
             group by t.id having t.attempts <> count(a.*) filter (where a.outcome <> 'released')",
        )
        .await;
        self.none("attempts without an end", "select task_id::text from attempts where outcome = 'running'")
            .await;
        self.none("leases of nobody", "select task_id::text from task_leases").await;
    }

    /// I2, as far as rows tell.
    async fn one_epoch_is_published(&self) {
        self.none(
            "tasks that succeeded and were not done exactly once",
            "select t.id::text from tasks t
             left join attempts a on a.task_id = t.id and a.outcome = 'succeeded'
             where t.status = 'succeeded' group by t.id having count(a.*) <> 1",
        )
        .await;
        self.none(
            "segments of attempts that did not succeed",
            // Those of broadcasts are stored by whoever carries them, under no attempt.
            "select s.key from segments s
             where not exists (select 1 from broadcasts b where b.set_id = s.set_id)
               and not exists (
                 select 1 from attempts a where a.outcome = 'succeeded' and starts_with(s.key, a.prefix))",
        )
        .await;
        self.none(
            "renditions of ready recordings with holes",
            "select s.set_id::text || ' ' || s.rung from segments s
             join recording_sets rs on rs.set_id = s.set_id and rs.static_prefix is not null
             group by s.set_id, s.rung having max(s.number) + 1 <> count(*) or min(s.number) <> 0",
        )
        .await;
    }

    /// Each job ended as it had to, and what it made plays from beginning to end, as FFmpeg decodes it (I2).
    async fn ends_are_as_expected(&self, client: &Client) -> Counts {
        let mut counts = Counts { jobs: self.accepted.len(), ..Counts::default() };
        let mut played = HashSet::new();
        for (id, ends) in &self.accepted {
            let job = client.get(&format!("/jobs/{id}")).await;
            match text(&job, "status") {
                "succeeded" => counts.succeeded += 1,
                "failed" => counts.failed += 1,
                "cancelled" => counts.cancelled += 1,
                open => panic!("{id} is {open}"),
            }
            let status = text(&job, "status");
            match ends {
                Ends::Well => assert_eq!(status, "succeeded", "{id}: {}", job["error"]),
                Ends::Badly => {
                    assert_eq!(status, "failed", "{id}");
                    assert!(!text(&job["error"], "message").is_empty(), "says why: {job}");
                }
                Ends::Survives => {
                    let passing =
                        ["worker_lost", "storage", "ffmpeg", "internal", "deadline_exceeded", "unreachable"];
                    let reason = job["error"]["reason"].as_str().unwrap_or_default();
                    assert!(status == "succeeded" || passing.contains(&reason), "{id}: {}", job["error"]);
                    self.used_up(id, status).await;
                }
            }
            if status == "succeeded" && job["kind"] == "transcode" {
                played.insert(text(&job, "recording_id").to_owned());
            }
        }
        let frames = stream::iter(played).map(|recording| async move { plays(client, &recording).await });
        counts.frames =
            frames.buffer_unordered(AT_ONCE).fold(0, |sum, frames| async move { sum + frames }).await;
        counts
    }

    /// I6: no process, no scratch, no object that nothing refers to.
    async fn nothing_is_left_over(&self, farm: &Farm) {
        let root = farm.dir.path().to_owned();
        until("the last child to be gone", Duration::from_secs(20), || async {
            orphans(&root).is_empty().then_some(())
        })
        .await;
        let scratch = root.join("scratch");
        until("the scratch to be empty", Duration::from_secs(20), || async {
            attempts_in(&scratch).is_empty().then_some(())
        })
        .await;
        // What a zombie may still write is swept twice, after a while; that while is over. The stand-in for a store looks at every object it
        // has for each prefix.
        let waiting = self.number("select count(*) from garbage").await as u64;
        until("the garbage to be swept", Duration::from_secs(60 + 2 * waiting), || async {
            self.database
                .execute("update garbage set due_at = now() where due_at > now()", &[])
                .await
                .unwrap();
            (self.number("select count(*) from garbage").await == 0).then_some(())
        })
        .await;
        let kept: Vec<String> =
            self.database.query(KEPT, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
        let kept: HashSet<&str> = kept.iter().map(String::as_str).collect();
        let prefixes: Vec<&str> = kept.iter().copied().filter(|key| key.ends_with('/')).collect();
        let stray: Vec<String> = objects(&store(farm))
            .into_iter()
            .filter(|key| {
                !kept.contains(key.as_str()) && !prefixes.iter().any(|prefix| key.starts_with(prefix))
            })
            .collect();
        assert!(
            stray.is_empty(),
            "{} objects that nothing refers to, such as {:?}",
            stray.len(),
            &stray[..stray.len().min(5)]
        );
    }
}

/// Keys that rows refer to, and prefixes whose objects are all kept.
const KEPT: &str = "
    select key from segments where key <> ''
    union select init_key from renditions where init_key <> ''
    union select init.value ->> 'key' from broadcasts b join broadcast_runs r on r.broadcast_id = b.id, jsonb_each(r.inits) as init
        where b.status <> 'expired'
    union select thumbnail_key from broadcasts where thumbnail_key is not null and status <> 'expired'
    union select text_key from renditions where text_key is not null
    union select key from pictures union select key from stills union select key from downloads
    union select static_prefix from recording_sets where static_prefix is not null
    union select prefix || 'storyboard.vtt' from attempts where outcome = 'succeeded'
    -- One chunk's serves all of a rendition; each brings its own, because none knows which is first.
    union select distinct a.prefix || r.rung || '/init.mp4' from attempts a, renditions r where a.outcome = 'succeeded'
    union select key from upload_pieces
    union select piece ->> 'key' from sources, jsonb_array_elements(pieces) as p (piece) where deleted_at is null";

/// Recordings that are played at once.
const AT_ONCE: usize = 4;

/// Plays a recording as a player would, and counts the frames of its best rendition.
async fn plays(client: &Client, recording: &str) -> usize {
    let played = Playback::fetch(client, recording).await;
    let best = &played.video[0];
    let counted = reelmill_testkit::ffmpeg::probe_file(
        &["-count_frames", "-select_streams", "v:0", "-show_streams"],
        best.file.to_str().unwrap(),
    );
    let frames: usize = text(&counted["streams"][0], "nb_read_frames").parse().unwrap();
    let seconds: f64 = best.lengths.iter().sum();
    let rate: Vec<f64> =
        text(&counted["streams"][0], "r_frame_rate").split('/').map(|n| n.parse().unwrap()).collect();
    let expected = seconds * rate[0] / rate[1];
    assert!((frames as f64 - expected).abs() < 1.0, "{recording}: {frames} frames in {seconds} s");
    frames
}

/// FFmpegs that work in a farm's directory and have no parent in it any more, and those that have.
fn orphans(root: &Path) -> Vec<String> {
    let root = root.to_string_lossy();
    let mut found = vec![];
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let program = line.split(' ').next().unwrap_or_default();
        if (program.ends_with("ffmpeg") || program.ends_with("ffprobe")) && line.contains(root.as_ref()) {
            found.push(line);
        }
    }
    found
}

/// Directories of attempts that are left in what workers were given as scratch.
pub(super) fn attempts_in(scratch: &Path) -> Vec<String> {
    let mut found = vec![];
    for worker in std::fs::read_dir(scratch).into_iter().flatten().flatten() {
        let entries = std::fs::read_dir(worker.path()).into_iter().flatten().flatten();
        found.extend(
            entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.path().display().to_string()),
        );
    }
    found
}

/// Where a farm's objects are on this host, and what its keys begin with there.
pub(super) fn store(farm: &Farm) -> std::path::PathBuf {
    match &farm.s3 {
        Some(_) => farm.dir.path().join("s3").join(reelmill_testkit::s3::BUCKET).join("farm"),
        None => farm.dir.path().join("objects"),
    }
}

/// Keys of all that is in a store.
pub(super) fn objects(root: &Path) -> Vec<String> {
    let mut found = vec![];
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    found
}

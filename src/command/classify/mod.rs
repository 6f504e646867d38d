//! `longclip classify`: classifies images by how well each label fits.

mod checks;
mod page;
mod parts;
mod question;
mod sort;
mod tag;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::{ArgGroup, Args};

use super::classify::sort::SortArgs;
use super::classify::tag::TagArgs;
use crate::output::FailureKind;
use crate::run::calibration::Calibration;
use crate::run::engine::Engine;
use crate::run::failures::{FailureArgs, MadeBy};
use crate::run::flags::{
    EngineArgs, FrameArgs, ImageArgs, LabelArgs, OutputArgs, PartArgs, ScoreArgs,
};
use crate::run::images::Images;
use crate::run::parts::is_folder;
use crate::run::results::{Form, Results};
use crate::run::session::{Session, Stop};
use crate::run::{Console, Outcome, report};
use checks::{check_frames, needs_files};
use page::Page;
use question::Question;

/// Written by hand, because the derived usage puts labels before images.
const USAGE: &str = "longclip classify [OPTIONS] <IMAGE>... --labels <TEXT>...
       longclip classify [OPTIONS] <IMAGE>... --labels-file <FILE>
       longclip classify [OPTIONS] <IMAGE>... --probe <FILE>";

/// What only `--help` and the manual page say.
const DETAILS: &str = r#"Images:
  Folders are walked recursively, in sorted order; hidden entries and system
  folders (@eaDir, __MACOSX, $RECYCLE.BIN, …) are skipped. In a folder, a file
  is taken if its extension or its magic bytes identify an image. A path on the
  command line or in --files-from always gets a record.

Archives:
  A .tar (plain, or compressed by gzip or zstd: .tar.gz, .tgz, .tar.zst) or .zip
  among the images or in --files-from is read as a folder of that name, in its
  own order: photos.zip/dir/a.jpg. Nothing is unpacked to disk, and one image at a
  time is read. Hidden files, system folders and other files are skipped.
  Names that lead out of an archive (../a.jpg, /a.jpg) are shortened in results.
  With --tar, - is a tar archive on stdin, read as it streams; its images are
  -/dir/a.jpg. Links, sparse and encrypted files are errors of these images; an
  archive that is damaged, cut short or without its end mark is answered as far as
  it goes, and is one more error record. Folders are not searched for archives.
  Of a .parquet each row is an image: the bytes in a column named image, img, jpg,
  jpeg, png, webp, content or bytes, or bytes in a column of bytes and path (of any
  name, where the hub's metadata say Image). Exactly one must be there. A row's name
  is the first there is of that path and the columns path, filename, file_name,
  __key__ and key, else its number from 0: pets.parquet/17. Up to three
  pages are in memory at a time; pyarrow puts 1024 rows into one.

Decoding:
  JPEG, PNG, GIF, WebP, BMP, TIFF, PNM and HEIC are identified by content, never
  by extension, and AVIF and JPEG XL if they are built in; the error record of
  any other format names it and says how to convert it. A camera's raw file is
  represented by the largest JPEG preview in it. EXIF orientation is applied,
  transparency is shown on white, 16-bit samples
  are scaled rather than clipped, and colours become RGB before the resize. The
  resize is Pillow's bicubic bit for bit; the crop offset is rounded as
  torchvision rounds it, or as transformers does if the model comes with a
  transformers image processor. An image that repeats within a run, as a copy or
  in another format, is encoded once.

  --max-memory limits the memory of all images that are decoded at the same time;
  one that needs more is an error, and the others wait. PNG, GIF and TIFF are
  resized row by row and need little; JPEG, WebP, BMP, PNM, interlaced PNG and
  GIF, and tiles or planes of TIFF are held as a whole: 3 bytes per pixel, up to
  9 in a progressive JPEG, and 12 to 24 in AVIF, JPEG XL and a HEIC without
  tiles. Sides are limited to 1,000,000 pixels.

  --fast-decode reads a JPEG at a half, a quarter or an eighth of its size, if
  both sides keep at least three times the pixels of the model's input, and then
  resizes it as usual. An image of 12 megapixels took a fifth less CPU time,
  start and tower of tiny included; cosines with exact embeddings were 0.9997 or
  more. --resume and --cache never mix the two. Some damage that is warned about
  otherwise, or refused with --strict, may go unnoticed.

Animations and video:
  Without --frames, an animation is its first frame. --frames all gives a record
  for each frame of a GIF, APNG or animated WebP, composed as the format says;
  every:K takes the frames 0, K, 2K, …; N takes N of them, the middle frames of N
  equal parts: (2i + 1) * frames / 2N, rounded down, for i = 0 to N - 1. A record
  then has "frame" (from 0) and, where it is known, "time" in seconds; CSV has
  both as columns; tables, reports, messages and embed name a frame a.gif#3.
  Still images are unaffected. --frames-mean gives one record per file instead:
  the mean of the frames' unit embeddings, normalised.

  Video comes on stdin from a program that decodes it, all or every:K:
    ffmpeg -i a.mp4 -f yuv4mpegpipe - | longclip classify --frames every:25 - …
    ffmpeg -i a.mp4 -f image2pipe -c:v ppm - | longclip classify --frames all - …
  A frame's record is written as soon as it is ready, and a stream may have no
  end. PPM and PGM are exact. Y4M (8 bits; also from a file) does not state its
  matrix: it is read as BT.601, so for video in BT.709 (HD) use PPM, or add
  -vf scale=out_color_matrix=bt601. What breaks off in the middle is answered up
  to there, and the break is an error record.

Failures:
  An image that cannot be read gets an error record and a line on stderr, and
  the run continues. A JPEG that decodes only in part and a PNG without its end
  marker are answered with a "warnings" entry, or fail with --strict. An image
  that is transparent everywhere and a TIFF whose black and white had to be
  guessed are answered with a warning as well.

  "error" is for people; "error_kind" next to it is one of line (a line of
  --files-from names no image), missing, denied, read (a folder, a device, a
  failing disk), format (not an image, or no decoder for it), limit
  (--max-pixels, --max-memory, sides), decode (damaged), place (could not be
  moved or linked), internal. --max-errors N or P% makes the exit status 0 while
  no more than N images, or P% of all, have failed, also if that is every one,
  and 1 beyond it; programs that start many runs pass 100% and count errors
  themselves. --summary FILE has the counts by kind, the rate, and the hashes of
  model and labels.

Lists:
  A line of --files-from is a path as it stands. One that begins with { and is
  not the name of a file is a JSON object: "path" (or "image") names the image,
  and all its keys come back in the record, in front of the record's own and as
  they were written. A key of the same name as one of the record's is refused,
  as is a key that is there twice. Every line has exactly one record, in order,
  written before the next line is waited for; a line that is not understood or
  too long (64 KiB, an object 1 MiB) is an error with its number. json and jsonl
  hold such keys; other formats do not, and say so once.

Label files:
  --labels-file takes the name of a built-in set, or a file:
    text          one label per line; # comments, blank lines skipped
    .json, .yaml  labels; label -> prompts; or numbered labels (id2label,
                  also in a config.json; imagenet_class_index.json)
    JSON lines    one object per line
    .csv, .tsv    a column label (or class, name, category, …), and
                  optionally prompt (a complete text), alias (goes
                  through the templates; several rows of one label are
                  one class), and key or folder (what a dataset's folder
                  is called); without a header, label and prompts
  Cells are separated by commas, semicolons, tabs or |, detected or given by
  --delimiter. Numbers, ids, bullets or quotes around every line are not part
  of the labels. Whatever is guessed is reported on stderr; a JSON list keeps
  its labels as they are. Text files may be UTF-8 or UTF-16, with Unix or
  Windows line ends.

Built-in labels:
  imagenet (the curated names, with WordNet ids), cifar10, cifar100, food101,
  flowers102, pets, dtd, eurosat, sun397, aircraft, birdsnap, caltech101, cars,
  clevr, country211, fer2013, gtsrb, hateful-memes, kinetics700, kitti, mnist,
  pcam, resisc45, sst2, stl10, ucf101 and voc2007, each with the templates that
  openai/CLIP used for it (--templates NAME).

Templates:
  --template "a photo of a {}." or --templates NAME|FILE: one template per
  line, or a list in JSON, YAML or Python; {c} and {label} are placeholders
  too. The embeddings of a label's prompts are normalised, averaged and
  normalised again, as openai/CLIP does. Built in: none (the default), photo,
  openai7 (the seven best for ImageNet), openai80 (all of ImageNet's) and one
  per set of labels, by its name.

Long texts:
  A text beyond the model's context is an error that states its length.
  --long-text truncate cuts it as the reference implementations do and reports
  what was lost; chunk-mean cuts it between words into chunks, encodes each and
  averages them, weighted by tokens; slide does the same with overlapping
  windows (--stride); best-chunk takes, for each image, the chunk that fits it
  best.

Scores:
  softmax (the default) is a probability over the given labels alone. sigmoid
  scores each label independently, against a neutral prompt (--none-label, "a
  photo" by default; a sigmoid-trained model's logit bias instead, if it has
  one). cosine and logit are the raw scores. With softmax, cosine and logit,
  --none-label adds an extra "none of these" class, and the texts of
  --background compete one by one and are reported together under it. With
  --calibration, probabilities use the temperature that longclip calibrate
  fitted, and a record whose best probability is below the fitted threshold has
  "uncertain":true.

Results:
  The format is that of --format, else of the suffix of --output, else a table
  on a terminal and JSON lines elsewhere. A suffix that names another kind of
  file is refused unless --format is given. The file appears whole or not at
  all; a run that is stopped leaves what was complete in FILE.partial. A path
  that is not UTF-8 is in "image" with replacement characters and in
  "image_bytes" exactly, as base64; CSV has a last column for it, which
  --image-bytes adds for --files-from, whose paths are not known in advance.
  --report FILE.html writes a self-contained page: every image with its
  thumbnail and best labels, searchable, sortable and filterable, without
  network access.

  parquet has the columns of csv with types, one row per prediction (rank 1 is
  the best), the exact bytes of odd paths, "uncertain" and "warnings"; it is
  compressed with zstd and complete only at the end. paths lists the images
  that have a label: with --threshold those that reach it, without the images
  that are uncertain or whose best label is --none-label. label-studio is one
  array of tasks for an interface with <Image name="image" value="$image"/> and
  <Choices name="label" toName="image">; images are local files, relative to the
  document root, so run longclip there; a file elsewhere is refused, or left out
  if --files-from names it (exit status 1). It predicts the best label, or with
  --threshold all that reach it. longclip schema describes the JSON.

Many processes:
  --shard I/N answers a share of the input. The input is divided into units: an
  archive, or a block of --part-size images of lists, folders and arguments;
  share I, from 0, answers the units I, I + N, I + 2N, …. Every share reads the
  same lists. In a job array, --shard auto takes the share from the variables of
  Slurm or AWS Batch. An Indexed Job of Kubernetes does not state its size, and a
  requeued Slurm array may have fewer tasks: --shard auto/N takes only the index,
  from 0, from them.

  -o DIR/ (a name that ends in /, or an existing folder) writes a part per unit,
  in the format of --format: jsonl, csv, tsv or parquet. A part that is whole is
  kept, so a process that was stopped or killed is started again with the same
  command; what it had begun is dropped. A part has the same bytes whoever writes
  it, and two processes with the same share do no harm. The failures in parts
  that are kept count in the exit status. The folder's run.json states what the
  answers depend on: another model, other labels or flags, another list and other
  CPU instructions are refused (status 2), naming the difference. On machines of
  several kinds, set --precision and LONGCLIP_KERNEL. That the content of an image
  changed is not noticed. longclip merge DIR checks that every part is there and
  joins them to the file that one process would have written.

Sorting:
  --link DIR, --copy DIR and --move DIR put each image into a folder named
  after its best label. Nothing is ever overwritten. A list of what is done is
  written first; longclip undo LIST reverts it. --dry-run only reports what
  would happen.

Sidecars:
  --xmp adds the best label of each image, or with --threshold all that reach
  it, to dc:subject of its XMP sidecar, which photo managers show as keywords;
  images are never changed. A new sidecar is img.jpg.xmp, which darktable and
  digiKam read, and which img.cr2 does not share; --xmp=stem makes img.xmp,
  which Lightroom reads for raw files and darktable on import. An existing
  sidecar of either name is extended: all other bytes of it stay, and labels
  that it has are not added again. img.xmp belongs to img.cr2 (or another raw
  file) if there is one, else to the only image of that name: for others,
  --xmp makes img.jpg.xmp, and --xmp=stem fails. A read-only sidecar stays.
  One that is not understood is left as it is; the image's record has a warning,
  and the exit status is 1. The list for longclip undo is in the working folder.

Cache:
  --cache DIR (or LONGCLIP_CACHE) keeps the embeddings of images and texts for
  classify, evaluate, calibrate, embed and search, keyed by content, weights
  and every setting that changes the numbers: a moved image is found, a changed
  one is computed again. The towers run only for what is not cached. Delete the
  folder to empty the cache.

Precision:
  auto is bf16 on a CPU that computes it natively (avx512_bf16), f32 on any
  other CPU, and f16 on a GPU. int8 computes the later two thirds of the layers
  in 8-bit integers and the others in bf16; int8-fast computes all of them in
  8-bit integers. The attention of the first layer is more precise: f32 in bf16
  and int8, bf16 in int8-fast. ResNets compute int8 as bf16. In int8 and
  int8-fast, 16-bit integers stand in for bf16 on a CPU with AVX2 or AVX-VNNI
  only, f32 on one without either; AVX2 alone rounds 8-bit weights more. -v
  says what was chosen and why, longclip bench what it costs.

Device:
  auto takes a GPU if the build supports one and it starts, and says why if it
  does not.

See longclip help models for what --model takes."#;

const EXAMPLES: &str = "\
Examples:
  longclip classify img.jpg --labels \"a cat jumping\" \"a cat sleeping\"
  longclip classify photos/ --labels-file labels.txt --format jsonl > out.jsonl
  find . -name '*.jpg' -print0 | longclip classify --files-from - -0 --labels cat dog --format csv
  longclip classify --model ./my-checkpoint img.jpg --labels cat dog --templates openai80
  longclip classify photos/ --labels-file cifar10 --templates cifar10 --none-label \"something else\"
  longclip classify photos/ --labels cat dog --threshold 0.8 --move sorted/ --dry-run
  longclip classify photos/ --labels cat dog --threshold 0.8 --xmp
  longclip classify photos/ --labels cat dog --threshold 0.8 --format paths
  longclip classify photos/ --probe pets.safetensors
  longclip classify photos/ --labels cat dog -o parts/ --shard auto
  longclip classify photos.zip shard-000.tar --labels cat dog --format jsonl
  aws s3 cp s3://bucket/shard.tar - | longclip classify --tar - --labels cat dog

Exit status: 0 every image was classified, 1 some failed (each has an error record), 2 could not
run, 75 temporary failure, try again (the hub is down, the disk is full), 130 or 143 stopped by a
signal.";

/// The arguments of `longclip classify`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("changes").multiple(true).args(["link", "copy", "move_to", "xmp"])))]
#[command(override_usage = USAGE, after_help = EXAMPLES, after_long_help = format!("{DETAILS}\n\n{EXAMPLES}"))]
pub struct ClassifyArgs {
    #[command(flatten)]
    images: ImageArgs,
    #[command(flatten)]
    labels: LabelArgs,
    /// Classify with a file of longclip probe or longclip labels instead; selects its model
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Labels",
        conflicts_with_all = [
            "labels", "labels_file", "template", "templates", "none_label", "background",
            "background_file", "calibration",
        ]
    )]
    probe: Option<PathBuf>,
    #[command(flatten)]
    score: ScoreArgs,
    /// Use the temperature and threshold from longclip calibrate
    #[arg(long, value_name = "FILE", help_heading = "Scores")]
    calibration: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    failures: FailureArgs,
    /// Write a self-contained HTML report of all images with their labels
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    report: Option<PathBuf>,
    #[command(flatten)]
    sort: SortArgs,
    #[command(flatten)]
    tag: TagArgs,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    frames: FrameArgs,
    #[command(flatten)]
    parts: PartArgs,
}

/// Classifies images and writes one record each.
///
/// # Errors
/// When it cannot run; an image that fails has an error record.
pub fn run(args: ClassifyArgs, console: &Console) -> Result<Outcome> {
    let started = Instant::now();
    // Everything that can be checked without a model is checked before one is downloaded.
    let images = Images::open(&args.images, &args.labels.labels)?;
    let folder = parts::folder(&args)?;
    let division = args.parts.division(folder.is_some())?;
    let mut question = Question::new(&args, console)?;
    args.sort.check(&args.images.images)?;
    args.tag
        .check(&args.images.images, &question.labels, args.sort.run())?;
    check_frames(&args)?;
    let images = images.leave_out(args.sort.unread(&args.images.images));
    check_outputs(&args, &images)?;
    args.failures.check(args.output.file.path())?;
    let form = match folder {
        Some(_) => Form::of_parts(&args.output)?,
        None => Form::of(&args.output, console)?,
    };
    let form = form
        .with_frames(args.frames.are_single())?
        .with_images(&args.images.images)?
        .with_exact_names(|| images.has_odd_names());
    let images = images.without_shards(needs_files(&args, &form))?;
    let calibration = Calibration::read(&args.calibration)?;
    let cache = args.engine.cache.folder()?;
    let session = Session::open(&question.model(&args, console)?, console)?;
    question.fit(&args, &session, console)?;
    let engine = Engine::new(&session, args.engine.decoding(&session))
        .guesses(question.is_zero_shot())
        .towers(question.towers())
        .single(images.single())
        .frames(args.frames.frames)
        .thumbnails(args.report.is_some())
        .cached(cache)?;
    if let (Some(folder), Some(division)) = (folder, division) {
        let parted = parts::Parted {
            args: &args,
            form,
            calibration: calibration.as_ref(),
            engine: &engine,
            started,
        };
        return parted.run(folder, division, images, &mut question, console);
    }
    // Images are decoded while the model loads.
    let images = images
        .shared(division)
        .start(&engine, Stop::default())
        .averaged(args.frames.frames_mean);

    let model = engine.load(console)?;
    let temperature = question.temperature(&args, calibration.as_ref(), &session, console)?;
    let (labels_sha256, probe_sha256) = (question.labels_sha256(&args)?, question.probe_sha256());
    let judge = question.judge(model.as_ref(), &session, args.score.score, temperature)?;

    // The token table stays memory-mapped until the texts are encoded.
    session.checkpoint.unchanged()?;
    let model_name = &session.checkpoint.name;
    let mut results = Results::open(
        args.output.file.path(),
        form,
        args.score.score,
        model_name,
        console,
    )?;
    let threshold = calibration.and_then(|calibration| calibration.none_threshold);
    let recorder = question.recorder(&args.score, threshold);
    let mut page = Page::create(&args, &session, &recorder)?;
    let mut sorting = args.sort.start(&question.labels, console)?;
    let mut tagging = args.tag.start(args.sort.run(), console);
    let counts = images.for_each(&engine, console, |encoded| {
        let scores = recorder.scores(judge.as_ref(), &encoded);
        if let Some(page) = &mut page {
            page.image(&encoded, &scores, recorder.uncertain(&scores))?;
        }
        let (path, best) = (encoded.path.clone(), scores.first().map(|best| best.class));
        let mut record = recorder.record(encoded, scores);
        if let (Some(tagging), Some(path)) = (&mut tagging, &path) {
            tagging.tag(path, &mut record)?;
        }
        if let (Some(sorting), Some(path)) = (&mut sorting, path) {
            sorting.sort(&path, best, &mut record)?;
        }
        results.write(&record)
    });
    let not_tagged = tagging.map_or(0, |tagging| tagging.finish());
    let not_sorted = sorting.map_or(0, |sorting| sorting.finish());
    engine.finish(console);
    let made_by = MadeBy {
        command: "classify",
        started,
        session: &session,
        labels_sha256: labels_sha256.as_deref(),
        probe_sha256: probe_sha256.as_deref(),
    };
    let mut counts = match counts {
        Ok(counts) => counts,
        Err(error) => {
            // What was done to images and sidecars already has no other record.
            let has_acted = args.sort.folder().is_some() || args.tag.is_asked();
            if has_acted && args.output.file.path().is_some() {
                let kept = results.keep_partial();
                kept.unwrap_or_else(|kept| console.warn(&format!("{kept:#}")));
            }
            return Err(error);
        }
    };
    if let Some(page) = page {
        page.finish(&counts, console)?;
    }
    let left_out = results.left_out();
    match counts.signal {
        Some(_) => results.keep_partial()?,
        None => results.finish()?,
    }
    let not_placed = not_sorted + not_tagged + left_out;
    let outcome = with_failures(counts.outcome(console), not_placed);
    counts.fail(FailureKind::Place, not_placed);
    args.failures.end(&made_by, &counts, outcome)
}

/// Images that could not be sorted, labelled or written count as failures.
fn with_failures(outcome: Outcome, failures: u64) -> Outcome {
    match outcome {
        Outcome::Answered if failures > 0 => Outcome::SomeFailed,
        outcome => outcome,
    }
}

/// Fails if an output cannot be written, or would replace an input.
fn check_outputs(args: &ClassifyArgs, images: &Images) -> Result<()> {
    let file = args.output.file.path();
    let outputs = [
        file.filter(|file| !is_folder(file)),
        args.report.as_deref(),
        args.failures.file(),
    ];
    let [labels, templates] = args.labels.files();
    let inputs = [
        labels,
        templates,
        args.score.none.background_file.as_deref(),
        args.calibration.as_deref(),
        args.probe.as_deref(),
    ];
    images.check_outputs(&outputs, &inputs)?;
    report::check_page(args.report.as_deref())
}

//! Template and label sets that are built in, as published; the files are in `assets` with their
//! source and licence.

/// The file of each set, by name.
type Sets<const N: usize> = [(&'static str, &'static str); N];

macro_rules! sets {
    ($folder:literal, $extension:literal, $($name:literal),* $(,)?) => {
        [$((
            $name,
            include_str!(concat!("../../../assets/", $folder, "/", $name, $extension)),
        )),*]
    };
}

/// Templates, one per line.
const TEMPLATES: Sets<29> = sets!(
    "templates",
    ".txt",
    "photo",
    "openai80",
    "openai7",
    "aircraft",
    "birdsnap",
    "caltech101",
    "cars",
    "cifar10",
    "cifar100",
    "clevr",
    "country211",
    "dtd",
    "eurosat",
    "fer2013",
    "flowers102",
    "food101",
    "gtsrb",
    "hateful-memes",
    "kinetics700",
    "kitti",
    "mnist",
    "pcam",
    "pets",
    "resisc45",
    "sst2",
    "stl10",
    "sun397",
    "ucf101",
    "voc2007",
);

/// Labels as a table.
const LABELS: Sets<27> = sets!(
    "labels",
    ".csv",
    "imagenet",
    "aircraft",
    "birdsnap",
    "caltech101",
    "cars",
    "cifar10",
    "cifar100",
    "clevr",
    "country211",
    "dtd",
    "eurosat",
    "fer2013",
    "flowers102",
    "food101",
    "gtsrb",
    "hateful-memes",
    "kinetics700",
    "kitti",
    "mnist",
    "pcam",
    "pets",
    "resisc45",
    "sst2",
    "stl10",
    "sun397",
    "ucf101",
    "voc2007",
);

/// The templates of this name, one per line.
pub(super) fn templates(name: &str) -> Option<&'static str> {
    match name {
        "none" => Some("{}"),
        // ImageNet's labels and templates share one name too, like those of all other datasets.
        "imagenet" => find(&TEMPLATES, "openai80"),
        name => find(&TEMPLATES, name),
    }
}

/// The labels of this name, a table with a header.
pub(super) fn labels(name: &str) -> Option<&'static str> {
    find(&LABELS, name)
}

/// Sets whose labels are not in the order of the dataset's class numbers, because tools number the
/// classes differently or nobody has checked.
const UNNUMBERED: [&str; 11] = [
    "birdsnap",
    "caltech101",
    "clevr",
    "eurosat",
    "fer2013",
    "kinetics700",
    "kitti",
    "pets",
    "sun397",
    "ucf101",
    "voc2007",
];

/// Whether class numbers of the dataset are indices into this built-in set; other names are files,
/// in the user's order.
pub fn counts_classes(name: &str) -> bool {
    !UNNUMBERED.contains(&name)
}

/// The names of the built-in template sets.
pub fn template_names() -> impl Iterator<Item = &'static str> {
    let more = TEMPLATES.iter().map(|(name, _)| *name);
    ["none", "imagenet"].into_iter().chain(more)
}

/// The names of the built-in label sets.
pub fn label_names() -> impl Iterator<Item = &'static str> {
    LABELS.iter().map(|(name, _)| *name)
}

fn find(sets: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
    let found = sets.iter().find(|(known, _)| *known == name);
    found.map(|(_, content)| *content)
}

//! Template and label sets that come with the program, as published; the files lie in `assets` with
//! their source and licence.

/// The file of each set, by the name that it is asked for by.
type Sets<const N: usize> = [(&'static str, &'static str); N];

macro_rules! sets {
    ($folder:literal, $extension:literal, $($name:literal),* $(,)?) => {
        [$((
            $name,
            include_str!(concat!("../../../assets/", $folder, "/", $name, $extension)),
        )),*]
    };
}

/// Templates, one a line.
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

/// The templates of that name, one a line.
pub(super) fn templates(name: &str) -> Option<&'static str> {
    match name {
        "none" => Some("{}"),
        // ImageNet's labels and templates go by one name too, as those of all other data sets.
        "imagenet" => find(&TEMPLATES, "openai80"),
        name => find(&TEMPLATES, name),
    }
}

/// The labels of that name, a table with a header.
pub(super) fn labels(name: &str) -> Option<&'static str> {
    find(&LABELS, name)
}

/// Sets whose labels are not in the order of their data set's class numbers, where tools number the
/// classes differently, or where nobody has checked.
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

/// Whether class numbers of the data set count the labels of this built-in set; other names are files,
/// and their order is the user's.
pub fn counts_classes(name: &str) -> bool {
    !UNNUMBERED.contains(&name)
}

/// The names of the template sets that come with the program.
pub fn template_names() -> impl Iterator<Item = &'static str> {
    let more = TEMPLATES.iter().map(|(name, _)| *name);
    ["none", "imagenet"].into_iter().chain(more)
}

/// The names of the label sets that come with the program.
pub fn label_names() -> impl Iterator<Item = &'static str> {
    LABELS.iter().map(|(name, _)| *name)
}

fn find(sets: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
    let found = sets.iter().find(|(known, _)| *known == name);
    found.map(|(_, content)| *content)
}

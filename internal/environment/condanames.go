package environment

import (
	"regexp"
	"strings"
)

// condaNames are packages of conda that are called otherwise on an index of
// Python's. All others are looked for under their own name.
func condaNames() map[string]string {
	return map[string]string{
		"pytorch": "torch", "pytorch-cpu": "torch", "matplotlib-base": "matplotlib", "tensorflow-base": "tensorflow", "tensorflow-cpu": "tensorflow",
		"msgpack-python": "msgpack", "py-xgboost": "xgboost", "py-xgboost-cpu": "xgboost", "py-opencv": "opencv-python-headless", "opencv": "opencv-python-headless",
		"seaborn-base": "seaborn", "dask-core": "dask", "python-graphviz": "graphviz", "pyarrow-core": "pyarrow",
		"pytorch-gpu": "torch", "tensorflow-gpu": "tensorflow", "psycopg2": "psycopg2-binary", "pytables": "tables", "python-xxhash": "xxhash", "python-flatbuffers": "flatbuffers",
		"python-tzdata": "tzdata", "python-lmdb": "lmdb",
	}
}

// notPython matches packages of conda that are programs and libraries of a
// system: on an index of Python's the name is nobody's, or somebody else's.
var notPython = regexp.MustCompile(`^(?:lib.*|r-.*|_.*|.*-devel|cuda.*|cudnn|nccl|mkl|blas|openblas|openmpi.*|mpich.*|(?:gcc|gxx|gfortran|clang|cxx|c|fortran)[-_].*|gcc|cxx-compiler|` +
	`compilers|cmake|make|ninja|git|nodejs|openjdk|ffmpeg|gdal|geos|proj|graphviz|openssl|ca-certificates|curl|zlib|bzip2|xz|sqlite|readline|tk|ncurses|hdf5|llvm.*|tbb|vc|vs20.*|` +
	`cpuonly|nomkl|pytorch-cuda|pytorch-mutex|boost|boost-cpp|eigen|expat|freetype|glib|icu|jpeg|krb5|lz4-c|snappy|zstd|unixodbc|msodbcsql.*|poppler|pandoc|tesseract|` +
	`maven|go|perl|ruby|rust|wget|unzip|tar|gzip|bash|swig|pkg-config|gtk.*|qt|xorg-.*)$`)

// forPip is the requirement in the words of pip (PEP 508), or why there is none.
func (r Requirement) forPip() (text, reason string) {
	if r.Pip {
		text = r.Package + r.Extras + r.Asked
		if r.Marker != "" {
			text += "; " + r.Marker
		}
		return text, ""
	}
	name := strings.ToLower(r.Package)
	switch {
	case name == "python":
		return "", "the image's Python stays"
	case notPython.MatchString(name):
		return "", "a package of conda that pip does not have"
	}
	if other, ok := condaNames()[name]; ok {
		name = other
	}
	var all []string
	for one := range strings.SplitSeq(r.Asked, ",") {
		spec, ok := specForPip(one)
		if !ok {
			return "", "a version that pip has no words for"
		}
		if spec != "" {
			all = append(all, spec)
		}
	}
	return name + strings.Join(all, ","), ""
}

// versionText is a version as conda and pip both write it.
var versionText = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.!+_]*$`)

// conda's =VERSION=BUILD.
var buildText = regexp.MustCompile(`^(==?)([^=<>!~|,]+)=[^=<>!~|,]+$`)

// build reports whether a requirement of conda's names a build.
func (r Requirement) build() bool { return !r.Pip && buildText.MatchString(r.Asked) }

// specForPip says one comparison of conda's in the words of PEP 440: =1.2 is
// ==1.2.*, and =1.2=py311_0 is ==1.2, since the build says which files of conda's
// it is; a choice (1.2|1.3) can't be said.
// Source: conda, "Package match specifications".
func specForPip(one string) (spec string, ok bool) {
	if m := buildText.FindStringSubmatch(one); m != nil {
		one = "==" + m[2]
	}
	if one == "" || one == "*" || one == "==*" || one == "=*" {
		return "", true
	}
	version := strings.TrimLeft(one, "=<>!~")
	operator := one[:len(one)-len(version)]
	version, wild := strings.CutSuffix(version, "*")
	version = strings.TrimSuffix(version, ".")
	if !versionText.MatchString(version) {
		return "", false
	}
	if strings.Trim(version, "0123456789.!") != "" { // 1.0rc1.* is nothing that PEP 440 has
		if wild {
			return "", false
		}
		if operator == "=" {
			operator = "=="
		}
	}
	switch operator {
	case "=":
		return "==" + version + ".*", true
	case "", "==", "!=":
		if operator == "" {
			operator = "=="
		}
		if wild {
			version += ".*"
		}
		return operator + version, true
	case ">=", "<=", ">", "<":
		return operator + version, true // conda takes >=1.2.* as >=1.2
	case "~=":
		return operator + version, !wild
	}
	return "", false
}

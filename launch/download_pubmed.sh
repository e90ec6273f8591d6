#!/usr/bin/env bash
# Mirror PubMed and PubMed Central's full texts, with checksums.
#
#     bash launch/download_pubmed.sh DIR [baseline|updatefiles|oa_comm|oa_noncomm|oa_other|manuscripts]...
#
# Without further words it takes baseline and updatefiles, into DIR/baseline and DIR/updatefiles.
# Steps, for each file that the server's folder lists: fetch its .md5; keep a local file that agrees; otherwise
# go on with NAME.partial where it was cut, compare, and rename. Run it again at any time: what is whole stays,
# what was cut goes on, what changed at the source is fetched anew. A PubMed file without .md5 is an error.
# Once all is there, pubmed*.xml.gz that the server lists no more go: a new year's baseline replaces the old files,
# whose updates would otherwise be read as revisions of it.
# oa_comm, oa_noncomm, oa_other and manuscripts are PMC's articles by licence, an XML file each, from its bucket on AWS
# (launch/download_pmc.py says how; PMC_CONNECTIONS requests at a time, PYTHON runs it).
# PUBMED_URL and PMC_BUCKET_URL name other servers, mirrors for instance. With PMC_URL, a folder that holds oa_comm/xml
# and its like as NCBI had them until August 2026, packages come from there instead, compared by date and tested with
# `gzip -t`. Exit status 1 if any file failed.
# shellcheck disable=SC2329  # mirror_folder calls two of the functions by name
set -euo pipefail

PUBMED_URL=${PUBMED_URL:-https://ftp.ncbi.nlm.nih.gov/pubmed}
PMC_URL=${PMC_URL:-}
PMC_BUCKET_URL=${PMC_BUCKET_URL:-https://pmc-oa-opendata.s3.amazonaws.com}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PYTHON=${PYTHON:-$here/../.venv/bin/python}
CURL=(curl --fail --silent --show-error --location --connect-timeout 30 --speed-limit 1 --speed-time 60)

fail() {
    echo "error: $*" >&2
    return 1
}

# The names of the packages that a folder of the server lists.
list_packages() { # URL PATTERN
    local page
    page=$("${CURL[@]}" "$1/") || fail "$1/ cannot be listed; check the network, PUBMED_URL and PMC_URL" || return 1
    grep -oE "href=\"$2\"" <<<"$page" | cut -d '"' -f 2 | sort -u || fail "$1/ lists no file like $2"
}

md5_of() { md5sum <"$1" | cut -d ' ' -f 1; }

# Go on with a partial file, or start again where the server cannot.
fetch() { # URL PARTIAL
    local code status=0
    code=$("${CURL[@]}" --remote-time --write-out '%{http_code}' --continue-at - --output "$2" "$1") || status=$?
    # HTTP 416: there is no such rest, so the partial file is of another version; 33: the server knows no ranges.
    if [[ $status != 0 && ($code == 416 || $status == 33) && -s $2 ]]; then
        rm -f "$2"
        status=0
        "${CURL[@]}" --remote-time --output "$2" "$1" || status=$?
    fi
    return "$status"
}

mirror_with_md5() { # URL TARGET
    local text expected attempt
    text=$("${CURL[@]}" "$1.md5") || fail "$1.md5 cannot be fetched, so the file is not taken; run again" || return 1
    expected=$(grep -oE '\b[0-9a-f]{32}\b' <<<"$text" | tail -n 1) || fail "$1.md5 holds no MD5 sum" || return 1
    if [[ -f $2 && $(md5_of "$2") == "$expected" ]]; then return 0; fi
    # Twice: a partial file may be of an earlier version at the source.
    for attempt in 1 2; do
        if [[ ! -f $2.partial || $(md5_of "$2.partial") != "$expected" ]]; then
            fetch "$1" "$2.partial" || fail "$1 was cut; run again to go on" || return 1
        fi
        if [[ $(md5_of "$2.partial") == "$expected" ]]; then
            mv "$2.partial" "$2"
            echo "$2"
            return 0
        fi
        rm -f "$2.partial"
    done
    fail "$1 does not agree with its .md5 after $attempt downloads; run again later"
}

mirror_by_date() { # URL TARGET
    if [[ -f $2 ]]; then
        rm -f "$2.partial"
        "${CURL[@]}" --remote-time --time-cond "$2" --output "$2.partial" "$1" ||
            fail "$1 cannot be fetched; run again" || return 1
        [[ -s $2.partial ]] || { rm -f "$2.partial" && return 0; }
    else
        fetch "$1" "$2.partial" || fail "$1 was cut; run again to go on" || return 1
    fi
    if ! gzip -t "$2.partial" 2>/dev/null; then
        rm -f "$2.partial"
        fail "$1 is not a whole gzip file; run again" || return 1
    fi
    mv "$2.partial" "$2"
    echo "$2"
}

# Last year's baseline and updates would be read as revisions of this year's.
remove_unlisted() { # FOLDER NAMES
    local path name
    for path in "$1"/pubmed*.xml.gz "$1"/pubmed*.xml.gz.partial; do
        name=${path##*/}
        if [[ -f $path ]] && ! grep -qxF "${name%.partial}" <<<"$2"; then
            rm "$path"
            echo "$path removed, the server does not list it any more"
        fi
    done
}

mirror_folder() { # URL FOLDER PATTERN FUNCTION
    local names name failed=0
    names=$(list_packages "$1" "$3") || return 1
    mkdir -p "$2"
    for name in $names; do
        "$4" "$1/$name" "$2/$name" || failed=$((failed + 1))
    done
    ((failed == 0)) || fail "$failed files of $1 are missing or of an earlier version; run again" || return 1
    [[ $4 != mirror_with_md5 ]] || remove_unlisted "$2" "$names"
}

if (($# == 0)) || [[ $1 == -h || $1 == --help ]]; then
    sed -n '2,/^# shellcheck/{/^# shellcheck/d;/^#/s/^# \{0,1\}//p}' "$0"
    exit 0
fi
directory=$1
shift
(($#)) || set -- baseline updatefiles
status=0
articles=()
for part in "$@"; do
    case $part in
    baseline | updatefiles)
        mirror_folder "$PUBMED_URL/$part" "$directory/$part" '[A-Za-z0-9_.-]+\.xml\.gz' mirror_with_md5 || status=1
        ;;
    oa_comm | oa_noncomm | oa_other)
        if [[ -z $PMC_URL ]]; then
            articles+=("$part")
            continue
        fi
        mirror_folder "$PMC_URL/$part/xml" "$directory/$part" '[A-Za-z0-9_.-]+\.tar\.gz' mirror_by_date || status=1
        ;;
    manuscripts) articles+=("$part") ;;
    *)
        fail "$part is no part of the mirror; give baseline, updatefiles, oa_comm, oa_noncomm, oa_other or manuscripts" ||
            status=1
        ;;
    esac
done
if ((${#articles[@]})); then
    "$PYTHON" "$here/download_pmc.py" "$directory" "${articles[@]}" --url "$PMC_BUCKET_URL" \
        --connections "${PMC_CONNECTIONS:-16}" || status=1
fi
exit "$status"

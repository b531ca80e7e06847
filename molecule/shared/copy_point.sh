#!/bin/bash
# copy_point.sh ID NEW…: in a folder of backups, the recovery point ID also as if it had been taken at other times.
set -eu
from=$1
shift
for to; do
  for file in */*-"$from".*; do
    copy=${file/"$from"/"$to"}
    cp --archive "$file" "$copy"
    case $copy in *.json) sed -i "s/$from/$to/g" "$copy" ;; esac
  done
done

#!/usr/bin/perl
# SPDX-License-Identifier: MIT
# Hashes, arrays, closures, regular expressions, sorting, formats and child processes in Perl.
use strict;
use warnings;

my $state = 42;
sub pseudo_random { $state = ($state * 1103515245 + 12345) % 2147483648; return $state >> 8; }

my (%count, %lines, @records);
for my $i (1 .. 60000) {
    my $word = join '', map { chr(97 + pseudo_random() % 26) } 1 .. 1 + pseudo_random() % 4;
    $count{$word}++;
    push @{ $lines{ substr $word, 0, 2 } }, $i;
    push @records, { id => $i, word => $word, tail => 'x' x (pseudo_random() % 100) } if $i % 3 == 0;
    delete $count{$word} if $i % 11 == 0;
}
print scalar(keys %count), ' ', scalar(keys %lines), ' ', scalar(@records), "\n";
print join(' ', map { "$_=$count{$_}" } (sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count)[0 .. 30]), "\n";

my @sorted = sort { length $a->{tail} <=> length $b->{tail} || $a->{word} cmp $b->{word} || $a->{id} <=> $b->{id} } @records;
printf "%6d %s\n", $_->{id}, $_->{word} for @sorted[0 .. 20], @sorted[-20 .. -1];

my $text = join "\n", map { "$_->{id}: $_->{word} ($_->{tail})" } @records;
my $found = () = $text =~ /^\d+: ([a-m]+) \((x{3,40})\)$/mg;
(my $changed = $text) =~ s/(\w+) \((x+)\)/"<" . length($2) . ":" . uc($1) . ">"/ge;
my $sum = 0;
$sum = ($sum * 31 + ord) % 4294967291 for split //, substr $changed, 0, 400000;
print length($text), ' ', $found, ' ', length($changed), ' ', $sum, "\n";

my @makers = map { my $n = $_; sub { my $m = shift; return [ map { $n * $m + $_ } 1 .. 50 ] } } 1 .. 2000;
my $total = 0;
for my $round (1 .. 5) { $total += $_->($round)->[49] for @makers; }
print "$total\n";

my $string = '';
for (1 .. 200000) { $string .= chr(65 + $_ % 26); substr($string, 0, 1000) = '' if length $string > 50000; }
print length($string), ' ', unpack('%32C*', $string), "\n";

for my $n (1 .. 5) {
    my $pid = open(my $from, '-|') // die "fork: $!";
    if (!$pid) { print join ',', map { $_ * $n } 1 .. 1000; exit 0; }
    my $line = <$from>;
    print length($line), "\n";
    close $from or die "child: $?";
}

#!/usr/bin/perl
# SPDX-License-Identifier: MIT
# A load for the Perl interpreter: words are counted in hashes, records sorted, text is split, joined and substituted,
# objects with links both ways are built and dropped. It prints the same every time (run with PERL_HASH_SEED=0).
#   load_perl.pl [ROUNDS]
use strict;
use warnings;

my $rounds = @ARGV ? $ARGV[0] : 2;
my $state = 4711;

sub random {
    $state = ($state * 1103515245 + 12345) % 2147483648;
    return int($state / 65536) % $_[0];
}

sub words {
    my ($count) = @_;
    my %seen;
    for my $place (1 .. $count) {
        my $word = join '', map { chr(97 + random(26)) } 1 .. 2 + random(4);
        push @{ $seen{$word} }, $place;
    }
    my @order = sort { @{ $seen{$b} } <=> @{ $seen{$a} } || $a cmp $b } keys %seen;
    return "$order[0] " . scalar @order;
}

sub records {
    my ($count) = @_;
    my @records = map { { id => $_, name => sprintf('name-%05d', random(100000)), tags => [map { random(50) } 1 .. 3] } }
        1 .. $count;
    my %by_tag;
    for my $record (@records) {
        push @{ $by_tag{$_} }, $record for @{ $record->{tags} };
    }
    @records = sort { $a->{name} cmp $b->{name} || $a->{id} <=> $b->{id} } @records;
    return "$records[0]{name} " . scalar keys %by_tag;
}

sub tree {
    my ($depth, $parent) = @_;
    my $node = { weight => random(100), parent => $parent };
    $node->{children} = [map { tree($depth - 1, $node) } 1 .. 3] if $depth > 0;
    return $node;
}

sub weigh {
    my ($node) = @_;
    my $sum = $node->{weight};
    $sum += weigh($_) for @{ $node->{children} || [] };
    delete $node->{parent};
    return $sum;
}

sub text {
    my ($count) = @_;
    my $text = join "\n", map { random(1000) . '=' . 'x' x random(60) } 1 .. $count;
    $text =~ s/(\d+)=/<$1>/g;
    my $sum = 0;
    for my $line (split /\n/, $text) {
        my ($number, $tail) = $line =~ /^<(\d+)>(x*)$/;
        $sum = ($sum * 31 + $number + length $tail) % 2147483647;
    }
    return $sum;
}

for my $round (1 .. $rounds) {
    print join(' ', $round, words(6000), records(2000), weigh(tree(6, undef)), text(4000)), "\n";
}
